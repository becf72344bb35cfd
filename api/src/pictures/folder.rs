//! Keeps files in a folder: each is written whole under its name, or not at all.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use service::random;
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt as _,
};

/// A folder of files that are never changed. Several nodes may share it.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Opens a folder, which is created if it is missing.
    ///
    /// # Errors
    /// Fails if it can't be created.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Writes a file, and returns once the disk has it.
    ///
    /// # Errors
    /// Fails if the file can't be written. A part of it may stay under a name that begins with a dot.
    pub(super) async fn write(&self, name: &str, bytes: &Bytes) -> io::Result<()> {
        let unfinished = self.0.join(format!(".{name}.{:032x}", random::unique_id()));
        let written = async {
            let mut file = File::create_new(&unfinished).await?;
            file.write_all(bytes).await?;
            file.sync_all().await?;
            fs::rename(&unfinished, self.0.join(name)).await?;
            // The folder's new entry is on the disk only after this.
            File::open(&self.0).await?.sync_all().await
        };
        let written = written.await;
        if written.is_err() {
            // It may not be there. The first error says why the write failed.
            let _ = fs::remove_file(&unfinished).await;
        }
        written
    }

    /// Opens a file for reading, and returns its size in bytes.
    ///
    /// # Errors
    /// Fails if there is none of that name, or if it can't be read.
    pub(super) async fn read(&self, name: &str) -> io::Result<(File, u64)> {
        let file = File::open(self.0.join(name)).await?;
        let bytes = file.metadata().await?.len();
        Ok((file, bytes))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// Fails if there is none of that name, or if it can't be removed.
    pub(super) async fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failed_write_leaves_neither_the_file_nor_a_part_of_it() {
        let path = std::env::temp_dir().join(format!("roomcast-folder-{:032x}", random::unique_id()));
        let folder = Folder::open(&path).expect("a folder");
        let bytes = Bytes::from_static(b"picture");
        folder.write("one", &bytes).await.expect("it is written");
        // A folder can't be replaced by a file.
        std::fs::create_dir_all(path.join("two/in")).expect("a folder");
        folder.write("two", &bytes).await.expect_err("a folder has that name");
        let mut names: Vec<_> = std::fs::read_dir(&path)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names, ["one", "two"]);
        folder.remove("one").await.expect("it is there");
        assert_eq!(folder.read("one").await.expect_err("it is gone").kind(), io::ErrorKind::NotFound);
        std::fs::remove_dir_all(&path).expect("it can be removed");
    }
}
