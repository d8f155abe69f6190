//! What is fixed when a log is created and kept with it: everything that the fold needs besides the records
//! (`design.md`, promise 3). `meta.json` in the log's directory; another value in the settings is refused at start.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, read_file, replace_file};
use super::record;
use crate::event::HashKey;

/// Its name in the log's directory.
pub const FILE: &str = "meta.json";
/// Version of the log's format as a whole.
const FORMAT: u32 = 1;

/// What the fold needs, fixed for the life of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldSettings {
    /// How long a first copy is remembered, in ms of log time; `None`: for good.
    pub dedup_horizon_ms: Option<i64>,
    /// Most dimension sets of a (partition, customer, meter, day); further ones share one overflow row.
    pub dimension_sets_max: u32,
    /// Partitions of the log; the embedded one has 1.
    pub partitions: u32,
}

/// A log's identity and its fixed settings.
#[derive(Debug, Clone, Copy)]
pub struct LogMeta {
    /// Made at creation; stands in every segment, so that no file of another log is taken for one of this.
    pub log_id: [u8; 16],
    /// The secret of the identity and content hashes.
    pub hash_key: HashKey,
    /// What the fold needs.
    pub fold: FoldSettings,
}

/// Why a log's metadata could not be used.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The file cannot be read or written.
    #[error("{FILE} of the log: {0}")]
    Io(#[from] io::Error),
    /// The file is not what was written.
    #[error("{FILE} of the log is damaged ({0}); restore it from a backup: without it, no event can be told from its copies")]
    Damaged(String),
    /// Made by a newer Tollgate.
    #[error("the log has format {found}, this binary knows up to {FORMAT}: run the newer one")]
    Newer {
        /// The format found.
        found: u32,
    },
    /// A setting differs from what the log was created with.
    #[error(
        "the log was created with {name} = {kept}, the settings now say {set}; it is part of the data: set it back, or start with a new log and new rows"
    )]
    Changed {
        /// The setting.
        name: &'static str,
        /// As the log has it.
        kept: String,
        /// As the settings have it.
        set: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    record_version: u16,
    log_id: String,
    hash_key: String,
    partitions: u32,
    dedup_horizon_ms: Option<i64>,
    dimension_sets_max: u32,
    /// CRC-32C of the fields above, as `checked` renders them.
    crc32c: u32,
}

impl File {
    fn checked(&self) -> u32 {
        let fields = format!(
            "{} {} {} {} {} {:?} {}",
            self.format, self.record_version, self.log_id, self.hash_key, self.partitions, self.dedup_horizon_ms, self.dimension_sets_max
        );
        crc32c::crc32c(fields.as_bytes())
    }
}

/// Reads the metadata of the log in `dir`, or makes it if there is none.
///
/// # Errors
/// [`MetaError`]; nothing was changed.
pub fn open_or_create(disk: &dyn Disk, dir: &Path, wanted: FoldSettings) -> Result<LogMeta, MetaError> {
    let Some(bytes) = read_file(disk, &dir.join(FILE))? else {
        let has_segments = disk.list(dir)?.iter().any(|name| name.ends_with(".seg"));
        if has_segments {
            return Err(MetaError::Damaged("it is missing, though there are segments".into()));
        }
        return create(disk, dir, wanted);
    };
    let meta = parse(&bytes)?;
    compare(meta.fold, wanted)?;
    Ok(meta)
}

/// Reads the metadata of the log in `dir`; `None` if there is none.
///
/// # Errors
/// [`MetaError`].
pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<LogMeta>, MetaError> {
    read_file(disk, &dir.join(FILE))?.as_deref().map(parse).transpose()
}

fn parse(bytes: &[u8]) -> Result<LogMeta, MetaError> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| MetaError::Damaged(error.to_string()))?;
    if file.format > FORMAT || file.record_version > record::VERSION {
        return Err(MetaError::Newer { found: file.format.max(u32::from(file.record_version)) });
    }
    if file.checked() != file.crc32c {
        return Err(MetaError::Damaged("its checksum does not fit".into()));
    }
    let fold =
        FoldSettings { dedup_horizon_ms: file.dedup_horizon_ms, dimension_sets_max: file.dimension_sets_max, partitions: file.partitions };
    Ok(LogMeta { log_id: read_id(&file.log_id)?, hash_key: HashKey::from_bytes(read_id(&file.hash_key)?), fold })
}

fn create(disk: &dyn Disk, dir: &Path, fold: FoldSettings) -> Result<LogMeta, MetaError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(io::Error::from)?;
    let (id, key) = random.split_at(16);
    let mut file = File {
        format: FORMAT,
        record_version: record::VERSION,
        log_id: hex::encode(id),
        hash_key: hex::encode(key),
        partitions: fold.partitions,
        dedup_horizon_ms: fold.dedup_horizon_ms,
        dimension_sets_max: fold.dimension_sets_max,
        crc32c: 0,
    };
    file.crc32c = file.checked();
    let text = serde_json::to_vec_pretty(&file).map_err(|error| MetaError::Damaged(error.to_string()))?;
    replace_file(disk, dir, FILE, &text)?;
    Ok(LogMeta { log_id: read_id(&file.log_id)?, hash_key: HashKey::from_bytes(read_id(&file.hash_key)?), fold })
}

/// Holds the settings of a log against those that are wanted: they never change.
///
/// # Errors
/// [`MetaError::Changed`].
pub fn compare(kept: FoldSettings, wanted: FoldSettings) -> Result<(), MetaError> {
    let horizon = |ms: Option<i64>| ms.map_or("unlimited".to_owned(), |ms| format!("{ms} ms"));
    let pairs = [
        ("log.dedup_horizon", horizon(kept.dedup_horizon_ms), horizon(wanted.dedup_horizon_ms)),
        ("log.dimension_sets_max", kept.dimension_sets_max.to_string(), wanted.dimension_sets_max.to_string()),
        ("kafka.partitions", kept.partitions.to_string(), wanted.partitions.to_string()),
    ];
    match pairs.into_iter().find(|(_, kept, set)| kept != set) {
        Some((name, kept, set)) => Err(MetaError::Changed { name, kept, set }),
        None => Ok(()),
    }
}

fn read_id(digits: &str) -> Result<[u8; 16], MetaError> {
    let mut id = [0; 16];
    hex::decode_to_slice(digits, &mut id).map_err(|_| MetaError::Damaged("an id is not 32 hex digits".into()))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::RealDisk;
    use crate::log::disk::simulated::{Fault, SimulatedDisk};

    const FOLD: FoldSettings = FoldSettings { dedup_horizon_ms: None, dimension_sets_max: 10_000, partitions: 1 };

    #[test]
    fn what_the_fold_needs_is_fixed_at_creation() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = open_or_create(&RealDisk, dir.path(), FOLD).expect("created");
        let again = open_or_create(&RealDisk, dir.path(), FOLD).expect("opened");
        assert_eq!((made.log_id, made.hash_key), (again.log_id, again.hash_key));
        let changed = FoldSettings { dedup_horizon_ms: Some(5), ..FOLD };
        let error = open_or_create(&RealDisk, dir.path(), changed).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "the log was created with log.dedup_horizon = unlimited, the settings now say 5 ms; it is part of the data: set it back, or start with a new log and new rows"
        );
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed_or_makes_no_difference() {
        let disk = SimulatedDisk::default();
        let dir = Path::new("log");
        let made = open_or_create(&disk, dir, FOLD);
        assert!(made.is_err(), "the directory is not there yet");
        disk.create_dir(dir).expect("made");
        let made = open_or_create(&disk, dir, FOLD).expect("created");
        let bytes = disk.read(&dir.join(FILE)).expect("a file");
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            disk.put(&dir.join(FILE), &flipped);
            match open_or_create(&disk, dir, FOLD) {
                Ok(found) => assert_eq!((found.log_id, found.hash_key, found.fold), (made.log_id, made.hash_key, made.fold), "bit {at}"),
                Err(error) => assert!(error.to_string().contains("log"), "{error}"),
            }
        }
    }

    #[test]
    fn after_a_loss_of_power_it_is_there_as_it_was_given_out_or_is_made_now() {
        for operations in 0..8 {
            for seed in 0..16 {
                let disk = SimulatedDisk::default();
                let dir = Path::new("log");
                disk.create_dir(dir).expect("made");
                disk.fail(Fault::Everything, operations);
                let given_out = open_or_create(&disk, dir, FOLD);
                let disk = disk.power_loss(seed);
                let found = open_or_create(&disk, dir, FOLD).unwrap_or_else(|error| panic!("cut at {operations}, seed {seed}: {error}"));
                if let Ok(given_out) = given_out {
                    assert_eq!((found.log_id, found.hash_key), (given_out.log_id, given_out.hash_key));
                }
            }
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        open_or_create(&RealDisk, dir.path(), FOLD).expect("created");
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, text.replace("10000", "10001")).expect("written");
        assert!(matches!(open_or_create(&RealDisk, dir.path(), FOLD), Err(MetaError::Damaged(_))));
    }
}
