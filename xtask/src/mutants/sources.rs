//! The sources of the crates, searched for the place that a record means.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use proc_macro2::TokenStream;

use super::functions::{Function, functions};
use super::text::occurrences;

/// The sources of all crates, by the folders of the crates.
pub(super) struct Sources {
    crates: BTreeMap<String, Vec<Source>>,
}

/// A file.
struct Source {
    /// From the workspace's folder.
    path: String,
    text: String,
    functions: Vec<Function>,
}

/// Where a text is.
pub(super) struct Place<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
    pub(super) range: Range<usize>,
}

impl Sources {
    pub(super) fn read(root: &Path) -> Result<Self, String> {
        let mut crates = BTreeMap::new();
        for folder in folders(&root.join("crates"))? {
            let mut files = Vec::new();
            let path = format!("crates/{folder}/src");
            if root.join(&path).is_dir() {
                read_folder(root, &path, &mut files)?;
            }
            crates.insert(folder, files);
        }
        Ok(Self { crates })
    }

    /// Sources that exist in memory only.
    #[cfg(test)]
    pub(super) fn of(folder: &str, files: &[(&str, &str)]) -> Self {
        let source =
            |(name, text): &(&str, &str)| Source::new(format!("crates/{folder}/src/{name}"), (*text).to_owned());
        let files = files.iter().map(|file| source(file).unwrap()).collect();
        Self { crates: BTreeMap::from([(folder.to_owned(), files)]) }
    }

    /// The one place where a text is: in the body of a function of this name, or anywhere in a file if none is named.
    pub(super) fn find(
        &self,
        folder: &str,
        function: Option<&str>,
        file: Option<&str>,
        text: &str,
    ) -> Result<Place<'_>, String> {
        let files = self.crates.get(folder).ok_or_else(|| format!("there is no crates/{folder}"))?;
        let is_meant =
            |source: &&Source| file.is_none_or(|file| format!("/{}", source.path).ends_with(&format!("/{file}")));
        let files: Vec<&Source> = files.iter().filter(is_meant).collect();
        let place =
            file.map_or_else(|| format!("crates/{folder}/src"), |file| format!("{file} of crates/{folder}/src"));
        let bodies = match (function, file) {
            (Some(name), _) => bodies(&files, name),
            (None, Some(_)) => {
                files.iter().map(|source| Body { source, line: 1, range: 0..source.text.len() }).collect()
            }
            (None, None) => return Err("it names neither a function nor a file".to_owned()),
        };
        if bodies.is_empty() {
            return Err(function.map_or_else(
                || format!("there is no {place}"),
                |name| format!("there is no function `{name}` in {place}"),
            ));
        }
        let mut places: Vec<Place<'_>> = bodies.iter().flat_map(|body| body.places(text)).collect();
        // A function inside another is in both bodies.
        places.dedup_by(|one, other| one.path == other.path && one.range == other.range);
        match places.len() {
            1 => Ok(places.remove(0)),
            count => {
                let looked_at: Vec<String> = bodies.iter().map(Body::name).collect();
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                Err(format!("its old text is {count} times, not once, in {}: {text}", looked_at.join(", ")))
            }
        }
    }
}

impl Source {
    fn new(path: String, text: String) -> Result<Self, String> {
        let tokens: TokenStream = text.parse().map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { path, text, functions: functions(&tokens) })
    }
}

/// What is searched.
struct Body<'a> {
    source: &'a Source,
    line: usize,
    range: Range<usize>,
}

impl<'a> Body<'a> {
    fn name(&self) -> String {
        format!("{}:{}", self.source.path, self.line)
    }

    fn places(&self, text: &str) -> Vec<Place<'a>> {
        let start = self.range.start;
        let place = |found: Range<usize>| Place {
            path: &self.source.path,
            text: &self.source.text,
            range: start + found.start..start + found.end,
        };
        occurrences(&self.source.text[self.range.clone()], text).into_iter().map(place).collect()
    }
}

fn bodies<'a>(files: &[&'a Source], name: &str) -> Vec<Body<'a>> {
    let of_file = |source: &&'a Source| {
        let (source, name) = (*source, name.to_owned());
        let named = source.functions.iter().filter(move |function| function.is_called(&name));
        named.map(move |function| Body { source, line: function.line, range: function.body.clone() })
    };
    files.iter().flat_map(of_file).collect()
}

/// The names of the folders in a folder, sorted.
fn folders(folder: &Path) -> Result<Vec<String>, String> {
    Ok(entries(folder)?.into_iter().filter(|name| folder.join(name).is_dir()).collect())
}

fn entries(folder: &Path) -> Result<Vec<String>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let names = fs::read_dir(folder).map_err(failed)?;
    let names = names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    names.sort();
    Ok(names)
}

fn read_folder(root: &Path, folder: &str, files: &mut Vec<Source>) -> Result<(), String> {
    for name in entries(&root.join(folder))? {
        let path = format!("{folder}/{name}");
        if root.join(&path).is_dir() {
            read_folder(root, &path, files)?;
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(root.join(&path)).map_err(|error| format!("{path}: {error}"))?;
            files.push(Source::new(path, text)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVER: &str = "impl Driver {\n    fn poll() { a(1); }\n    fn flush() { a(1); b(2); b(2); }\n}\n";
    const SIM: &str = "impl Sim {\n    fn poll() { a(3); }\n}\nconst MOST: u8 = 4;\n";

    fn find(function: Option<&str>, file: Option<&str>, text: &str) -> Result<(String, String), String> {
        let sources = Sources::of("provider", &[("driver.rs", DRIVER), ("backend/sim/mod.rs", SIM)]);
        let place = sources.find("provider", function, file, text)?;
        Ok((place.path.to_owned(), place.text[place.range].to_owned()))
    }

    #[test]
    fn a_text_is_found_wherever_its_function_is() {
        let expected = |file: &str, text: &str| Ok((format!("crates/provider/src/{file}"), text.to_owned()));
        assert_eq!(find(Some("Driver::poll"), None, "a( 1 );"), expected("driver.rs", "a(1);"));
        // Two functions have the name, and one of them the text.
        assert_eq!(find(Some("poll"), None, "a(3)"), expected("backend/sim/mod.rs", "a(3)"));
        assert_eq!(find(Some("poll"), Some("sim/mod.rs"), "a("), expected("backend/sim/mod.rs", "a("));
        assert_eq!(find(None, Some("sim/mod.rs"), "u8 = 4"), expected("backend/sim/mod.rs", "u8 = 4"));
    }

    #[test]
    fn what_does_not_fit_says_why() {
        let error = |function, file, text| find(function, file, text).unwrap_err();
        assert_eq!(error(Some("pool"), None, "a"), "there is no function `pool` in crates/provider/src");
        let expected = "there is no function `flush` in sim/mod.rs of crates/provider/src";
        assert_eq!(error(Some("flush"), Some("sim/mod.rs"), "a"), expected);
        let expected = "its old text is 0 times, not once, in crates/provider/src/driver.rs:2: c( 3 )";
        assert_eq!(error(Some("Driver::poll"), None, "c(\n    3\n)"), expected);
        let expected = "its old text is 2 times, not once, in crates/provider/src/driver.rs:3: b(2);";
        assert_eq!(error(Some("flush"), None, "b(2);"), expected);
        let both = "crates/provider/src/driver.rs:2, crates/provider/src/backend/sim/mod.rs:2";
        assert_eq!(error(Some("poll"), None, "a("), format!("its old text is 2 times, not once, in {both}: a("));
        assert_eq!(error(None, Some("im/mod.rs"), "a"), "there is no im/mod.rs of crates/provider/src");
        assert!(error(None, None, "a").contains("neither"));
        let sources = Sources::of("provider", &[]);
        assert_eq!(sources.find("provide", None, None, "a").err().unwrap(), "there is no crates/provide");
    }
}
