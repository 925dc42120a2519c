//! A flow file that is being written (`-w PATH`).
//!
//! The file always ends on a whole flow, or is made to before anything more is written: what was half written
//! when the disk filled up is cut off, and a file left by a crash is cut at the end of its last whole flow
//! when it is opened for appending. Without that, every later flow would be lost behind the torn one.
//!
//! Two processes may append to one file while one takes over from the other: each holds the file's lock while it
//! writes, so that neither writes into the other's flow nor cuts off what the other wrote.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::flowfile::write_flow;
use super::tnetstring::LengthPrefix;
use crate::flow::Flow;

/// Pending bytes that are written out without waiting for [`RecorderFile::flush`].
pub const WRITE_SIZE: usize = 256 << 10;
/// Bytes of flows kept for a later attempt while the file cannot be written; newer flows are dropped and
/// counted.
pub const PENDING_MAX: usize = 4 << 20;

/// How often a locked file is tried, and the pause between two tries: half a second in all.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A recording cannot be opened.
#[derive(Debug, Error)]
#[error("cannot record to {}: {source}", path.display())]
pub struct OpenError {
    /// The file, or the directory that could not be made.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// What a recording is written to.
pub trait Target: Write {
    /// Shortens it to that many bytes; writing goes on from there.
    fn cut(&mut self, length: u64) -> io::Result<()>;

    /// Keeps other writers out until [`Target::release`]; gives the target's length where others may have made it
    /// longer. Asked again while it is locked, it changes nothing.
    ///
    /// # Errors
    /// Somebody else keeps it locked ([`io::ErrorKind::WouldBlock`]), or what the system said.
    fn claim(&mut self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// Lets other writers in.
    fn release(&mut self) {}
}

impl Target for File {
    fn claim(&mut self) -> io::Result<Option<u64>> {
        let metadata = self.metadata()?;
        if !metadata.is_file() {
            // nobody cuts a pipe or a device, and one write to it stays in one piece as far as it can
            return Ok(None);
        }
        for attempt in 1.. {
            match self.try_lock() {
                Ok(()) => break,
                // a file system without locks: nobody else can be kept out
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => break,
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if attempt < LOCK_ATTEMPTS => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let reason = "another process keeps the recording locked";
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, reason));
                }
            }
        }
        Ok(Some(self.metadata()?.len()))
    }

    fn release(&mut self) {
        // an unlocked file cannot be unlocked: that is no failure
        let _ = self.unlock();
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        // The file is open for appending: the next write goes to its new end.
        self.set_len(length)
    }
}

/// A flow file that is being written.
pub struct RecorderFile<T: Target = File> {
    target: T,
    /// Bytes in the target, all of whole flows unless `torn`.
    written: u64,
    /// Bytes of a flow's beginning stand behind `written` and could not be cut off yet.
    torn: bool,
    pending: Vec<u8>,
    /// Where each pending flow ends in `pending`.
    ends: Vec<usize>,
    lost: u64,
    repaired: u64,
}

impl RecorderFile {
    /// Opens `PATH`, or `+PATH` to append to it. The file is made with mode 0600, for it holds what people
    /// keep secret; one that is written over gets that mode, one that is appended to keeps its own. Missing
    /// directories are made.
    pub fn open(spec: &str) -> Result<Self, OpenError> {
        let (append, path) = spec.strip_prefix('+').map_or((false, spec), |path| (true, path));
        let path = Path::new(path);
        let failed = |path: &Path, source| OpenError { path: path.to_owned(), source };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|source| failed(parent, source))?;
        }
        let (file, written, repaired) = open_file(path, append).map_err(|source| failed(path, source))?;
        let mut recorder = Self::with_target(file);
        (recorder.written, recorder.repaired) = (written, repaired);
        Ok(recorder)
    }
}

impl<T: Target> RecorderFile<T> {
    /// Records to an empty target.
    pub fn with_target(target: T) -> Self {
        Self { target, written: 0, torn: false, pending: Vec::new(), ends: Vec::new(), lost: 0, repaired: 0 }
    }

    /// Adds a flow; it is in the file after [`RecorderFile::flush`] at the latest. After an error the flows
    /// that are not in the file are kept for the next attempt as far as [`PENDING_MAX`] allows.
    pub fn append(&mut self, flow: &Flow) -> io::Result<()> {
        write_flow(flow, &mut self.pending);
        self.ends.push(self.pending.len());
        if self.pending.len() < WRITE_SIZE { Ok(()) } else { self.flush() }
    }

    /// Hands everything to the system. Does not wait for the disk.
    pub fn flush(&mut self) -> io::Result<()> {
        let result = self.write_pending();
        if result.is_err() {
            while self.pending.len() > PENDING_MAX {
                self.ends.pop();
                self.pending.truncate(self.ends.last().copied().unwrap_or(0));
                self.lost += 1;
            }
        }
        self.pending.shrink_to(PENDING_MAX);
        result
    }

    /// Flows that were dropped because the file could not be written for too long.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Bytes of a torn flow that were cut off an existing file.
    pub fn repaired(&self) -> u64 {
        self.repaired
    }

    /// Bytes in the file.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn write_pending(&mut self) -> io::Result<()> {
        if self.pending.is_empty() && !self.torn {
            return Ok(());
        }
        // where a flow is torn, the lock is still held
        if let Some(length) = self.target.claim()?
            && !self.torn
        {
            self.written = length;
        }
        let result = self.write_locked();
        if !self.torn {
            self.target.release();
        }
        result
    }

    fn write_locked(&mut self) -> io::Result<()> {
        if self.torn {
            self.target.cut(self.written)?;
            self.torn = false;
        }
        let (taken, result) = write_as_much(&mut self.target, &self.pending);
        // Flows that are in the file whole; without an error, all.
        let flows = self.ends.partition_point(|end| *end <= taken);
        let whole = flows.checked_sub(1).map_or(0, |last| self.ends[last]);
        self.written += whole as u64;
        self.pending.drain(..whole);
        self.ends.drain(..flows);
        self.ends.iter_mut().for_each(|end| *end -= whole);
        if taken > whole {
            self.torn = self.target.cut(self.written).is_err();
        }
        result?;
        self.target.flush()
    }
}

impl<T: Target> Drop for RecorderFile<T> {
    fn drop(&mut self) {
        // Whoever wants to know of a failure has called `flush`.
        let _ = self.write_pending();
    }
}

fn write_as_much(target: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut taken = 0;
    while taken < bytes.len() {
        match target.write(&bytes[taken..]) {
            Ok(0) => return (taken, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (taken, Err(error)),
        }
    }
    (taken, Ok(()))
}

/// The file, the length of its whole flows, and the number of bytes cut off.
fn open_file(path: &Path, append: bool) -> io::Result<(File, u64, u64)> {
    let open = |read| OpenOptions::new().read(read).append(true).create(true).mode(0o600).open(path);
    let regular = |file: &File| file.metadata().map(|metadata| metadata.is_file());
    if !append {
        let file = open(false)?;
        // A device or a pipe has no length.
        if regular(&file)? {
            // whoever could read the old one is not to read the new one
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.set_len(0)?;
        }
        return Ok((file, 0, 0));
    }
    // A pipe opened for reading too would never see its reader go away.
    if path.exists() && !fs::metadata(path)?.is_file() {
        return Ok((open(false)?, 0, 0));
    }
    let mut file = open(true)?;
    // what seems torn may be another process' flow on its way
    let length = file.claim()?.unwrap_or_default();
    let whole = whole_flows(&file, length)?;
    if whole < length {
        file.set_len(whole)?;
    }
    file.release();
    Ok((file, whole, length - whole))
}

/// How many bytes of a flow file are whole flows. Payloads are passed over, not read.
fn whole_flows(file: &File, length: u64) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut whole = 0;
    loop {
        let mut prefix = LengthPrefix::default();
        let mut at = whole;
        let payload = loop {
            let mut byte = [0];
            if reader.read(&mut byte)? == 0 {
                return Ok(whole);
            }
            at += 1;
            let pushed = prefix.push(byte[0]).map_err(|problem| {
                let text = format!("the file is no flow file, or is damaged at byte {}: {problem}", at - 1);
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
            if let Some(length) = pushed {
                break length;
            }
        };
        let end = at + payload + 1;
        if end > length {
            return Ok(whole);
        }
        reader.seek_relative(payload as i64 + 1)?;
        whole = end;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::flow::{Client, FlowMeta, TcpFlow, TcpMessage};
    use crate::store::FlowReader;

    /// Takes bytes until it is full; may refuse to be cut.
    #[derive(Default)]
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
        cuts_fail: bool,
    }

    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room - self.bytes.len()).min(1000);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Target for &mut Disk {
        fn cut(&mut self, length: u64) -> io::Result<()> {
            if self.cuts_fail {
                return Err(io::ErrorKind::Other.into());
            }
            self.bytes.truncate(length as usize);
            Ok(())
        }
    }

    fn flow(number: u8, size: usize) -> Flow {
        let client = Arc::new(Client { proxy_mode: "regular".into(), ..Client::default() });
        let content = Bytes::from(vec![number; size]);
        let messages = vec![TcpMessage { from_client: true, content, timestamp: 0.0 }];
        Flow::Tcp(Box::new(TcpFlow {
            meta: FlowMeta::new(client, Arc::default(), 0.0),
            messages,
            killed: false,
        }))
    }

    fn numbers(bytes: &[u8]) -> Vec<u8> {
        let number = |flow| match flow {
            Ok(Flow::Tcp(flow)) => flow.messages[0].content[0],
            other => panic!("{other:?}"),
        };
        FlowReader::new(bytes).map(number).collect()
    }

    #[test]
    fn a_full_disk_leaves_whole_flows_and_recording_resumes() {
        let mut size = Vec::new();
        write_flow(&flow(1, 5_000), &mut size);
        let mut disk = Disk { room: size.len() * 5 / 2, ..Disk::default() };
        let mut recorder = RecorderFile::with_target(&mut disk);
        for number in 1..=4 {
            recorder.append(&flow(number, 5_000)).unwrap();
        }
        assert_eq!(recorder.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(recorder.written(), size.len() as u64 * 2);
        assert_eq!(numbers(&recorder.target.bytes), [1, 2]);
        assert!(recorder.flush().is_err());
        recorder.target.room = usize::MAX;
        recorder.append(&flow(5, 10)).unwrap();
        recorder.flush().unwrap();
        assert_eq!(numbers(&recorder.target.bytes), [1, 2, 3, 4, 5]);
        assert_eq!(recorder.lost(), 0);
    }

    #[test]
    fn a_tail_that_could_not_be_cut_is_cut_before_the_next_write() {
        let mut disk = Disk { room: 3_000, cuts_fail: true, ..Disk::default() };
        let mut recorder = RecorderFile::with_target(&mut disk);
        recorder.append(&flow(1, 5_000)).unwrap();
        assert!(recorder.flush().is_err());
        assert_eq!(recorder.target.bytes.len(), 3_000);
        recorder.target.room = usize::MAX;
        assert!(recorder.flush().is_err(), "nothing is written behind a torn flow");
        recorder.target.cuts_fail = false;
        recorder.flush().unwrap();
        assert_eq!(numbers(&recorder.target.bytes), [1]);
    }

    #[test]
    fn what_waits_for_a_full_disk_is_bounded() {
        let mut disk = Disk::default();
        let mut recorder = RecorderFile::with_target(&mut disk);
        for number in 0..100 {
            let _ = recorder.append(&flow(number, 100_000));
            assert!(recorder.pending.len() <= PENDING_MAX);
        }
        let kept = 100 - recorder.lost();
        assert!((30..50).contains(&kept), "{kept}");
        assert!(recorder.append(&flow(0, 2 * PENDING_MAX)).is_err(), "a flow larger than the limit");
        recorder.target.room = usize::MAX;
        recorder.flush().unwrap();
        let expected: Vec<u8> = (0..kept as u8).collect();
        assert_eq!(numbers(&recorder.target.bytes), expected, "the oldest are kept");
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ringtap-recorder-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn record(spec: &str, numbers: std::ops::Range<u8>) -> RecorderFile {
        let mut recorder = RecorderFile::open(spec).unwrap();
        numbers.for_each(|number| recorder.append(&flow(number, 20)).unwrap());
        recorder.flush().unwrap();
        recorder
    }

    #[test]
    fn two_that_append_to_one_file_never_meet_inside_a_flow() {
        let path = scratch("two");
        let name = path.to_str().unwrap();
        let mut old = record(name, 1..2);
        let spec = format!("+{name}");
        std::thread::scope(|scope| {
            for first in [10, 110] {
                let spec = &spec;
                scope.spawn(move || {
                    let mut recorder = RecorderFile::open(spec).unwrap();
                    for number in first..first + 100 {
                        // more than one write takes: the other would find room in between
                        recorder.append(&flow(number, 300_000)).unwrap();
                    }
                });
            }
        });
        assert_eq!(old.written(), fs::metadata(&path).unwrap().len() - 200 * whole_size(300_000));
        old.append(&flow(250, 20)).unwrap();
        old.flush().unwrap();
        assert_eq!(old.written(), fs::metadata(&path).unwrap().len(), "what others wrote is not cut off");
        let mut found = numbers(&fs::read(&path).unwrap());
        found.sort_unstable();
        let expected: Vec<u8> = [1].into_iter().chain(10..210).chain([250]).collect();
        assert_eq!(found, expected);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_recording_that_somebody_keeps_locked_is_tried_again_later() {
        let path = scratch("locked");
        let mut recorder = record(path.to_str().unwrap(), 1..2);
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        recorder.append(&flow(2, 20)).unwrap();
        assert_eq!(recorder.flush().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        other.unlock().unwrap();
        recorder.flush().unwrap();
        assert_eq!(numbers(&fs::read(&path).unwrap()), [1, 2]);
        fs::remove_file(&path).unwrap();
    }

    fn whole_size(content: usize) -> u64 {
        let mut bytes = Vec::new();
        write_flow(&flow(1, content), &mut bytes);
        bytes.len() as u64
    }

    #[test]
    fn files_are_private_and_appended_to_only_when_asked() {
        let directory = scratch("open");
        let path = directory.join("a/b/flows.mitm");
        let name = path.to_str().unwrap();
        record(name, 1..3);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        record(&format!("+{name}"), 3..5);
        assert_eq!(numbers(&fs::read(&path).unwrap()), [1, 2, 3, 4]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        record(name, 9..10);
        assert_eq!(numbers(&fs::read(&path).unwrap()), [9]);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600,
            "written over: private again"
        );
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_torn_flow_is_cut_off_before_appending() {
        let directory = scratch("torn");
        let path = directory.join("flows.mitm");
        let name = path.to_str().unwrap();
        record(name, 1..4);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 7]).unwrap();
        let recorder = record(&format!("+{name}"), 7..9);
        assert_eq!(recorder.repaired(), whole.len() as u64 / 3 - 7);
        assert_eq!(numbers(&fs::read(&path).unwrap()), [1, 2, 7, 8]);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn errors_name_the_path() {
        let directory = scratch("errors");
        fs::create_dir_all(&directory).unwrap();
        let text = |spec: String| RecorderFile::open(&spec).err().map(|error| error.to_string()).unwrap();
        let name = directory.to_str().unwrap();
        assert!(text(name.to_owned()).starts_with(&format!("cannot record to {name}: Is a directory")));
        fs::write(directory.join("notes.txt"), "not flows").unwrap();
        let error = text(format!("+{name}/notes.txt"));
        assert!(error.contains("notes.txt: the file is no flow file"), "{error}");
        assert_eq!(fs::read(directory.join("notes.txt")).unwrap(), b"not flows");
        let error = text(format!("{name}/notes.txt/flows"));
        assert!(error.starts_with(&format!("cannot record to {name}/notes.txt: ")), "{error}");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn devices_can_be_recorded_to() {
        record("/dev/null", 0..3);
        record("+/dev/null", 0..3);
        let mut full = RecorderFile::open("/dev/full").unwrap();
        full.append(&flow(0, 1)).unwrap();
        assert_eq!(full.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
