//! Cache: set-ups that are kept between runs, in one folder outside the checkout.
//!
//! 1. A part is a folder with a stamp inside. The stamp says how the part was made, where it lies, and which versions are
//!    in it.
//! 2. A part whose stamp is not as it should be, or that has none, is made anew: in a temporary folder beside it, which
//!    takes its place when all of it is there. So a set-up that was interrupted is repeated, and two that run at the same
//!    time do not meet.
//! 3. What an interrupted set-up has left is removed by the next one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::say;

const STAMP: &str = "stamp";
/// Ends the name of a folder that is being made, or thrown away; the number of its process follows.
const PARTIAL: &str = ".partial-";

pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// `$RAON_CACHE`, else `$XDG_CACHE_HOME/raon`, else `~/.cache/raon`.
    pub(crate) fn open() -> Result<Self, String> {
        let folder = folder(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
            .ok_or("none of RAON_CACHE, XDG_CACHE_HOME and HOME is set; RAON_CACHE names the folder for set-ups")?;
        fs::create_dir_all(&folder)
            .map_err(|error| format!("{}: {error}; RAON_CACHE names another", folder.display()))?;
        let folder = fs::canonicalize(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        if is_plain(&folder) {
            return Ok(Self { folder });
        }
        Err(format!("{}: apt, cargo and shells split paths; RAON_CACHE must name one without blanks", folder.display()))
    }

    /// The folder of a part. Unless it is there as `recipe` says, `make` fills the folder that it gets first, which will
    /// then lie where its second argument says, and returns the versions in it.
    pub(super) fn part(
        &self,
        name: &str,
        recipe: &str,
        make: impl FnOnce(&Path, &Path) -> Result<String, String>,
    ) -> Result<PathBuf, String> {
        let place = self.folder.join(name);
        let head = head(recipe, &place);
        if fs::read_to_string(place.join(STAMP)).is_ok_and(|stamp| stamp.starts_with(&head)) {
            return Ok(place);
        }
        let failed = |error: std::io::Error| format!("{}: {error}", place.display());
        let parent = place.parent().unwrap_or(&self.folder);
        fs::create_dir_all(parent).map_err(failed)?;
        remove_leftovers(parent).map_err(failed)?;

        let partial = marked(&place, "new");
        fs::create_dir_all(&partial).map_err(failed)?;
        let made = make(&partial, &place);
        if made.is_err() {
            drop(fs::remove_dir_all(&partial));
        }
        let versions = made?;
        fs::write(partial.join(STAMP), format!("{head}{versions}\n")).map_err(failed)?;
        replace(&partial, &place).map_err(failed)?;
        say(&format!("{name}: ready in {}", place.display()));
        Ok(place)
    }

    /// What the stamp of a part says of the versions in it.
    pub(super) fn versions(part: &Path) -> Result<String, String> {
        let stamp = fs::read_to_string(part.join(STAMP)).map_err(|error| format!("{}: {error}", part.display()))?;
        Ok(stamp.lines().skip(2).collect::<Vec<_>>().join("\n"))
    }
}

fn folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let below_home = || variable("HOME").map(|home| home.join(".cache"));
    variable("RAON_CACHE").or_else(|| variable("XDG_CACHE_HOME").or_else(below_home).map(|cache| cache.join("raon")))
}

/// Whether a path is one word to whoever reads it.
fn is_plain(path: &Path) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || "/._-+~@".contains(character);
    path.to_str().is_some_and(|path| path.chars().all(is_part))
}

/// How a stamp begins. Programs of a part know where they lie, so a cache that was moved is made anew.
fn head(recipe: &str, place: &Path) -> String {
    format!("{recipe}\nin {}\n", place.display())
}

fn marked(place: &Path, what: &str) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!("{name}.{what}{PARTIAL}{}", std::process::id()))
}

/// Puts a folder that is complete in the place of what is there.
fn replace(complete: &Path, place: &Path) -> std::io::Result<()> {
    let old = marked(place, "old");
    if place.exists() {
        fs::rename(place, &old)?;
    }
    fs::rename(complete, place)?;
    if old.exists() { fs::remove_dir_all(old) } else { Ok(()) }
}

/// Removes the temporary folders of processes that are no more.
fn remove_leftovers(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.rsplit_once(PARTIAL)).map(|(_, owner)| owner);
        if owner.is_some_and(|owner| owner.parse::<u32>().is_ok() && !Path::new("/proc").join(owner).exists()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache of its own for each test.
    fn cache(name: &str) -> Cache {
        let folder = std::env::temp_dir().join(format!("raon-cache-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        Cache { folder }
    }

    fn fill(partial: &Path, _: &Path) -> Result<String, String> {
        fs::write(partial.join("content"), "new").map_err(|error| error.to_string())?;
        Ok("thing=1.2-3".to_owned())
    }

    fn never(_: &Path, _: &Path) -> Result<String, String> {
        Err("made again".to_owned())
    }

    #[test]
    fn a_part_is_made_once_per_recipe() {
        let cache = cache("once");
        let part = cache.part("a/part", "part 1", fill).unwrap();
        assert_eq!(fs::read_to_string(part.join("content")).unwrap(), "new");
        assert_eq!(Cache::versions(&part).unwrap(), "thing=1.2-3");
        assert_eq!(cache.part("a/part", "part 1", never), Ok(part.clone()));
        assert_eq!(cache.part("a/part", "part 2", never), Err("made again".to_owned()));
        assert_eq!(cache.part("a/part", "part 1", never), Ok(part), "what failed has replaced nothing");
        fs::remove_dir_all(cache.folder).unwrap();
    }

    #[test]
    fn what_was_interrupted_is_repeated_and_removed() {
        let cache = cache("interrupted");
        let place = cache.folder.join("part");
        // No process has this number: the kernel's limit is 2^22.
        let leftover = cache.folder.join(format!("part.new{PARTIAL}4194305"));
        for folder in [&place, &leftover] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("content"), "half").unwrap();
        }
        let part = cache.part("part", "part 1", fill).unwrap();
        assert_eq!(fs::read_to_string(part.join("content")).unwrap(), "new");
        let names: Vec<_> = fs::read_dir(&cache.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["part"]);
        fs::remove_dir_all(cache.folder).unwrap();
    }

    #[test]
    fn a_part_that_was_moved_is_made_anew() {
        let cache = cache("moved");
        let part = cache.part("part", "part 1", fill).unwrap();
        fs::rename(&part, cache.folder.join("other")).unwrap();
        assert_eq!(cache.part("other", "part 1", never), Err("made again".to_owned()));
        fs::remove_dir_all(cache.folder).unwrap();
    }

    #[test]
    fn variables_in_their_order() {
        let of = |set: &[(&str, &str)]| {
            folder(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value)))
        };
        assert_eq!(of(&[("HOME", "/h")]), Some("/h/.cache/raon".into()));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Some("/x/raon".into()));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("RAON_CACHE", "/r")]), Some("/r".into()));
        assert_eq!(of(&[]), None);
        assert!(is_plain(Path::new("/home-of/a_b/.cache/raon")) && !is_plain(Path::new("/My Files/raon")));
    }
}
