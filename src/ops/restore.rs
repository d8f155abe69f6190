//! `tollgate restore`: a data directory from a backup, whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::backup::{self, BackedUp, Content};
use super::files::{self, Unfinished};
use super::{Error, Step, Watch, io_at};
use crate::checked_json;

/// What is to be restored.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The backup.
    pub from: PathBuf,
    /// The data directory, which must not be there, or empty.
    pub data_dir: PathBuf,
}

impl Restore {
    /// Reads and checks the backup, then copies it and checks it again on the way.
    ///
    /// # Errors
    /// [`Error`]; there is no data directory then.
    pub fn run(&self, watch: &mut Watch<'_>) -> Result<Content, Error> {
        if !files::is_free(&self.data_dir)? {
            let what = "it is there and not empty; --data-dir takes a directory that is not there yet";
            return Err(Error::Refused(format!("{}: {what}", self.data_dir.display())));
        }
        let content = self.read_content()?;
        let all = content.files.iter().fold(0_u64, |all, file| all.saturating_add(file.bytes));
        let mut step = Step { what: "bytes", done: 0, of: all.saturating_mul(2) };
        for file in &content.files {
            let (path, mut from) = self.open(file)?;
            let crc = files::read(&mut from, &path, file.bytes, &mut |bytes| {
                step.done += bytes.len() as u64;
                watch(step)
            })?;
            check(file, path, crc)?;
        }
        let parent = files::parent(&self.data_dir);
        fs::create_dir_all(parent).map_err(io_at(parent))?;
        let made = Unfinished::begin(files::beside(&self.data_dir, "restore"))?;
        for file in &content.files {
            let (path, mut from) = self.open(file)?;
            let crc = files::copy(&mut from, &path, &made.path().join(&file.path), file.bytes, &mut |copied| {
                step.done += copied;
                watch(step)
            })?;
            check(file, path, crc)?;
        }
        made.finish(&self.data_dir)?;
        Ok(content)
    }

    fn read_content(&self) -> Result<Content, Error> {
        let file = self.from.join(backup::CONTENT);
        let bytes = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Refused(format!("{} is no backup: it has no {}", self.from.display(), backup::CONTENT)));
            }
            read => read.map_err(io_at(&file))?,
        };
        let content: Content = checked_json::read(&bytes).map_err(|what| Error::Damaged { file: file.clone(), what })?;
        if content.format != backup::FORMAT {
            let what = format!("the backup has format {}, this binary knows {}", content.format, backup::FORMAT);
            return Err(Error::Refused(what));
        }
        // Nothing outside of the backup is read, and nothing outside of the data directory is written.
        let is_inside = |path: &str| !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        match content.files.iter().find(|listed| !is_inside(&listed.path)) {
            Some(listed) => Err(Error::Damaged { file, what: format!("it lists {}", listed.path) }),
            None => Ok(content),
        }
    }

    /// Opens a listed file, which must have the listed size.
    fn open(&self, file: &BackedUp) -> Result<(PathBuf, File), Error> {
        let path = self.from.join(&file.path);
        let opened = File::open(&path).map_err(io_at(&path))?;
        let found = opened.metadata().map_err(io_at(&path))?.len();
        if found != file.bytes {
            return Err(Error::Damaged { file: path, what: format!("it has {found} bytes, the backup lists {}", file.bytes) });
        }
        Ok((path, opened))
    }
}

fn check(file: &BackedUp, path: PathBuf, crc32c: u32) -> Result<(), Error> {
    if crc32c == file.crc32c { Ok(()) } else { Err(Error::Damaged { file: path, what: "its checksum does not fit".into() }) }
}
