use super::*;
use crate::log::disk::simulated::SimulatedDisk;

const FILE: &str = "dir/file";

/// A full disk of ten pages, of which a waiting disk keeps two free where it can.
fn full() -> (SimulatedDisk, Arc<Room>, WaitingDisk) {
    let disk = SimulatedDisk::default();
    disk.create_dir(Path::new("dir")).expect("made");
    disk.create(Path::new("dir/ballast")).and_then(|file| file.write_at(0, &[1; 40_960])).expect("written");
    disk.set_capacity(Some(40_960));
    let room = Room::new(Arc::new(disk.clone()), Path::new("dir"), 8_192 * FLOOR_PART);
    (disk, room.clone(), WaitingDisk::new(room))
}

fn wait_until(holds: impl Fn() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}

#[test]
fn a_write_that_finds_no_room_waits_and_goes_on_where_it_was() {
    let (disk, room, waiting) = full();
    let file = waiting.create(Path::new(FILE)).expect("an empty file needs no room");
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| file.write_at(0, &[7; 10_000]));
        wait_until(|| room.is_waited_for());
        // Room for a part of it.
        disk.set_capacity(Some(45_056));
        assert!(!writer.is_finished());
        disk.set_capacity(Some(100_000));
        writer.join().expect("no panic").expect("is written");
    });
    assert_eq!(disk.read(Path::new(FILE)), Some(vec![7; 10_000]));
    assert!(!room.is_waited_for());
}

#[test]
fn what_is_begun_waits_for_the_floor() {
    let (disk, room, _) = full();
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| room.wait());
        wait_until(|| room.is_waited_for());
        disk.set_capacity(Some(40_960 + 8_191));
        assert!(!room.has_some());
        disk.set_capacity(Some(40_960 + 8_192));
        waiter.join().expect("no panic").expect("there is room");
    });
}

#[test]
fn nobody_waits_any_more_once_the_process_is_to_stop() {
    let (disk, room, waiting) = full();
    let file = waiting.create(Path::new(FILE)).expect("made");
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| file.write_at(0, &[7; 10_000]));
        let waiter = threads.spawn(|| room.wait());
        wait_until(|| room.is_waited_for());
        room.give_up();
        assert!(writer.join().expect("no panic").is_err_and(|error| is_full(&error)));
        assert!(waiter.join().expect("no panic").is_err());
    });
    // What needs no waiting goes on.
    disk.set_capacity(None);
    room.wait().expect("there is room");
    file.write_at(0, &[7; 10_000]).expect("is written");
}

#[test]
fn what_fails_for_another_reason_does_not_wait() {
    let (disk, _room, waiting) = full();
    disk.set_capacity(None);
    let file = waiting.create(Path::new(FILE)).expect("made");
    disk.fail(crate::log::disk::simulated::Fault::Write(io::ErrorKind::Other), 0);
    assert!(file.write_at(0, &[7]).is_err());
    disk.fail(crate::log::disk::simulated::Fault::Sync, 0);
    assert!(file.sync().is_err());
}
