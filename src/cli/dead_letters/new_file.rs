//! A file that is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::cli::{FAILED, Failure};

/// What is written goes to `FILE.partial`, and becomes `FILE` at the end. Let go of before, it is gone.
pub(super) struct NewFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
}

impl NewFile {
    /// A new file, which only its owner may read: what is there is not written over, and its mode would not change. What
    /// was left of an earlier try is.
    pub(super) fn begin(path: &Path) -> Result<Self, Failure> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(failed(path, &io::ErrorKind::AlreadyExists.into()));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&partial, &error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600);
        let file = opened
            .open(&partial)
            .map_err(|error| failed(&partial, &error))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            file,
        })
    }

    /// To write to.
    pub(super) fn writer(&self) -> &File {
        &self.file
    }

    /// It is whole. What has come to be there meanwhile is not replaced, which a rename would do.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let whole = self
            .file
            .sync_all()
            .and_then(|()| fs::hard_link(&self.partial, &self.path));
        whole.map_err(|error| failed(&self.path, &error))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // The next try replaces one that cannot be removed.
        drop(fs::remove_file(&self.partial));
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(FAILED, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn file_is_there_whole_or_not_at_all_and_replaces_none() {
        let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().simple().to_string());
        fs::create_dir(&folder).unwrap();
        let (path, partial) = (folder.join("l"), folder.join("l.partial"));
        fs::write(&partial, "of an earlier try").unwrap();
        let broken_off = NewFile::begin(&path).unwrap();
        (&broken_off.file).write_all(b"1").unwrap();
        drop(broken_off);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);

        let whole = NewFile::begin(&path).unwrap();
        (&whole.file).write_all(b"12").unwrap();
        assert!(!path.exists());
        whole.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"12");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(!partial.exists());

        assert!(NewFile::begin(&path).is_err());
        let overtaken = folder.join("m");
        let late = NewFile::begin(&overtaken).unwrap();
        fs::write(&overtaken, "another's").unwrap();
        assert!(late.finish().is_err());
        assert_eq!(fs::read(&overtaken).unwrap(), b"another's");
        fs::remove_dir_all(folder).unwrap();
    }
}
