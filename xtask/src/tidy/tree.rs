//! The files under check, read once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::TokenStream;

/// Every file of the checkout, build output and version control aside.
pub(crate) struct Tree {
    /// The text files, sorted by path.
    pub(crate) files: Vec<File>,
    /// Paths of all files, text or not, and of the folders that hold them.
    paths: BTreeSet<String>,
}

pub(crate) struct File {
    /// Relative to the workspace, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Empty unless it is a Rust file.
    pub(crate) tokens: TokenStream,
    /// The line at which a Rust file stops being one.
    pub(crate) broken_at: Option<usize>,
}

/// The servers that Raon is compared with: a workspace of their own, written as their libraries' users write, with the
/// system calls that ours hides.
const PEERS: &str = "crates/bench/peers/";

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let mut tree = Self { files: Vec::new(), paths: BTreeSet::new() };
        tree.read_folder(root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    /// A tree that exists in memory only.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self { files: Vec::new(), paths: BTreeSet::new() };
        for (path, text) in files {
            tree.add_path(path);
            tree.files.push(File::new((*path).to_owned(), (*text).to_owned()));
        }
        tree
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    pub(crate) fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.extension() == extension)
    }

    /// Whether a file or folder of that path exists.
    pub(crate) fn has(&self, path: &str) -> bool {
        path.is_empty() || self.paths.contains(path)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> Result<(), String> {
        let failed = |error| format!("{}: {error}", folder.display());
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if is_foreign(&entry.path()) {
                continue;
            }
            if kind.is_dir() {
                self.read_folder(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() {
                self.add_path(&path);
                if path.starts_with(PEERS) {
                    continue;
                }
                let bytes = fs::read(entry.path()).map_err(|error| format!("{path}: {error}"))?;
                if let Ok(text) = String::from_utf8(bytes) {
                    self.files.push(File::new(path, text));
                }
            }
        }
        Ok(())
    }

    fn add_path(&mut self, path: &str) {
        self.paths.insert(path.to_owned());
        for (slash, _) in path.match_indices('/') {
            self.paths.insert(path[..slash].to_owned());
        }
    }
}

impl File {
    fn new(path: String, text: String) -> Self {
        let mut file = Self { path, text, tokens: TokenStream::new(), broken_at: None };
        if file.extension() == "rs" {
            match file.text.parse::<TokenStream>() {
                Ok(tokens) => file.tokens = tokens,
                Err(error) => file.broken_at = Some(error.span().start().line),
            }
        }
        file
    }

    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    pub(crate) fn extension(&self) -> &str {
        self.name().rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// Lines with their numbers, which start at one.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// Build output (cargo marks what it made itself) and version control (in a worktree a file) are not ours to judge.
fn is_foreign(path: &Path) -> bool {
    path.ends_with(".git") || path.ends_with("target") || path.join("CACHEDIR.TAG").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_known_files_exist() {
        let tree = Tree::of(&[("docs/backends/epoll.md", "")]);
        assert!(tree.has("docs/backends/epoll.md") && tree.has("docs/backends") && tree.has("docs"));
        assert!(!tree.has("docs/back"));
    }

    #[test]
    fn names_and_extensions() {
        let tree = Tree::of(&[(".ci/run", ""), ("docs/a.md", "")]);
        let extensions: Vec<_> = tree.files.iter().map(File::extension).collect();
        assert_eq!(extensions, ["", "md"]);
        assert_eq!(tree.files[1].name(), "a.md");
    }
}
