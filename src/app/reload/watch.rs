//! Notices that files may have changed: by the system's events, and by comparing what it says of the files.
//!
//! One rule: events only say that it is worth a look. Files are replaced by renaming and by swapping the links that
//! lead to them, so folders are watched, and the stamps of the files decide.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::telemetry::credentials::not_watched;

/// A chain of links longer than this is a circle (Linux, path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Watches the folders that lead to some files.
pub(super) struct Watch {
    path: PathBuf,
    /// None where the system has no more watches to give.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    stirred: Arc<Notify>,
}

impl Watch {
    /// Watches the credentials file or folder at `path`.
    pub(super) fn new(path: &Path) -> Self {
        let stirred = Arc::new(Notify::new());
        let tell = Arc::clone(&stirred);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, is_change) {
                tell.notify_one();
            }
        });
        let watcher = watcher
            .map_err(|error| not_watched(path, &reason(&error)))
            .ok();
        Self {
            path: path.to_owned(),
            watcher,
            folders: BTreeSet::new(),
            stirred,
        }
    }

    /// Watches what leads to these files, besides what leads to the credentials themselves. Says whether any of it was
    /// not watched before.
    pub(super) fn follow(&mut self, files: &BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let mut folders = BTreeSet::new();
        if self.path.is_dir() {
            folders.insert(self.path.clone());
        }
        for file in files.iter().chain([&self.path]) {
            folders.extend(folders_to(file));
        }
        for gone in self.folders.difference(&folders) {
            // One that was deleted is watched no longer anyway.
            drop(watcher.unwatch(gone));
        }
        for folder in &folders {
            // Every time: a folder that was deleted and made again is another one.
            let watched = watcher.watch(folder, RecursiveMode::NonRecursive);
            if let Err(error) = watched
                && !self.folders.contains(folder)
            {
                not_watched(folder, &reason(&error));
            }
        }
        let has_new = !folders.is_subset(&self.folders);
        self.folders = folders;
        has_new
    }

    /// Waits until something has changed in one of the folders since the last time.
    pub(super) async fn stirred(&self) {
        self.stirred.notified().await;
    }
}

/// The system's reason without the paths, which are told beside it.
fn reason(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::Generic(text) => text.clone(),
        notify::ErrorKind::Io(error) => error.to_string(),
        notify::ErrorKind::PathNotFound => "it is not there".to_owned(),
        notify::ErrorKind::WatchNotFound => "it is not watched".to_owned(),
        notify::ErrorKind::InvalidConfig(_) => "the watch cannot be set up".to_owned(),
        notify::ErrorKind::MaxFilesWatch => "the system has no more watches to give".to_owned(),
    }
}

/// Not our own reading, which would have us look for ever.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// The folders in which a change can make this path lead to another file: its own and, along the chain of links, those
/// of the links and of the folders among them that are links.
fn folders_to(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut links = 0;
    let mut next = Some(absolute(file));
    while let Some(path) = next.take() {
        folders.insert(parent(&path));
        // The link nearest to the root decides where the rest of the path is.
        let link = path
            .ancestors()
            .filter(|part| part.is_symlink())
            .last()
            .map(Path::to_owned);
        if let Some(link) = link
            && let Ok(target) = link.read_link()
            && links < MOST_LINKS
        {
            links += 1;
            folders.insert(parent(&link));
            let rest = path.strip_prefix(&link).unwrap_or(Path::new(""));
            let target = parent(&link).join(target);
            next = Some(if rest.as_os_str().is_empty() {
                target
            } else {
                target.join(rest)
            });
        }
    }
    folders
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// What the system says of files, links followed: different whenever one may hold something else.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    mode: u32,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamps {
    /// Of the credentials file or folder, and of these files.
    pub(super) fn of(path: &Path, files: &BTreeSet<PathBuf>) -> Self {
        let stamp = |file: &PathBuf| (file.clone(), Stamp::of(file));
        let path = path.to_owned();
        Self(files.iter().chain([&path]).map(stamp).collect())
    }
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let metadata: Metadata = std::fs::metadata(file).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_folder_on_the_way_through_links_is_known() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().canonicalize().expect("it is there");
        fs::create_dir_all(root.join("mount/v1")).expect("a folder");
        fs::write(root.join("mount/v1/a.toml"), "").expect("a file");
        symlink("v1", root.join("mount/..data")).expect("a link");
        symlink("..data/a.toml", root.join("mount/a.toml")).expect("a link");
        fs::create_dir(root.join("etc")).expect("a folder");
        symlink("../mount/a.toml", root.join("etc/a.toml")).expect("a link");
        let folders = folders_to(&root.join("etc/a.toml"));
        for folder in ["etc", "mount", "mount/v1"] {
            let known = folders
                .iter()
                .any(|known| known.canonicalize().ok() == root.join(folder).canonicalize().ok());
            assert!(known, "{folder} in {folders:?}");
        }
    }

    #[test]
    fn circle_of_links_ends() {
        let dir = tempfile::tempdir().expect("a folder");
        symlink("b", dir.path().join("a")).expect("a link");
        symlink("a", dir.path().join("b")).expect("a link");
        assert!(folders_to(&dir.path().join("a")).contains(dir.path()));
    }

    #[test]
    fn stamps_differ_when_a_file_is_rewritten_replaced_or_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a");
        let stamps = || Stamps::of(&file, &BTreeSet::new());
        fs::write(&file, "one").expect("a file");
        let first = stamps();
        assert_eq!(first, stamps());
        fs::write(dir.path().join("b"), "two").expect("a file");
        fs::rename(dir.path().join("b"), &file).expect("renamed");
        let replaced = stamps();
        assert_ne!(first, replaced);
        fs::write(&file, "longer").expect("a file");
        assert_ne!(replaced, stamps());
        fs::remove_file(&file).expect("removed");
        assert_ne!(replaced, stamps());
    }
}
