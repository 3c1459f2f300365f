//! The machine's own apt sources, in both forms that they are written in, and how new ones are made of them.

use std::fs;
use std::path::{Path, PathBuf};

/// Where packages come from: a stanza of a `.sources` file, or a line of a `.list` file (`sources.list(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// Fields as they are written, such as `Signed-By`, whose value may be a key of many lines.
    options: Vec<(String, String)>,
}

/// Debian's name of the machine's release, and all sources that give packages of Debian's main component.
pub(super) struct Machine {
    codename: String,
    sources: Vec<Source>,
}

impl Machine {
    pub(super) fn read() -> Result<Self, String> {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = codename(&release).ok_or_else(|| elsewhere("this is not a release of Debian"))?;
        let mut sources = Vec::new();
        for file in files(Path::new("/etc/apt")) {
            let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let is_list = file.extension().is_some_and(|extension| extension == "list");
            sources.extend(if is_list { lines(&text) } else { stanzas(&text) });
        }
        Ok(Self { codename, sources })
    }

    /// Sources of the machine's own release with its updates, in the form of a `.sources` file.
    pub(super) fn own(&self) -> Result<String, String> {
        let own: Vec<Source> = self.sources.iter().filter_map(|source| source.of_release(&self.codename)).collect();
        let has_updates = own.iter().any(|source| source.suites.iter().any(|suite| is_security(suite)));
        if !has_updates {
            return Err(elsewhere(&format!("the apt sources of this machine do not name {}-security", self.codename)));
        }
        Ok(own.iter().map(Source::text).collect::<Vec<_>>().join("\n"))
    }

    /// A source of another release, from the mirror that the machine gets its own from.
    pub(super) fn other(&self, suite: &str) -> Result<String, String> {
        let mirror = self.sources.iter().find(|source| source.suites.contains(&self.codename));
        let mirror = mirror
            .ok_or_else(|| elsewhere(&format!("the apt sources of this machine do not name {}", self.codename)))?;
        Ok(Source { suites: vec![suite.to_owned()], ..mirror.clone() }.text())
    }
}

impl Source {
    /// The same with those of its suites that belong to a release.
    fn of_release(&self, codename: &str) -> Option<Self> {
        let suites: Vec<String> = self.suites.iter().filter(|suite| belongs(suite, codename)).cloned().collect();
        (!suites.is_empty()).then(|| Self { suites, ..self.clone() })
    }

    fn text(&self) -> String {
        let mut text =
            format!("Types: deb\nURIs: {}\nSuites: {}\nComponents: main\n", self.uris.join(" "), self.suites.join(" "));
        for (name, value) in &self.options {
            let blank = if value.starts_with('\n') { "" } else { " " };
            text.push_str(&format!("{name}:{blank}{value}\n"));
        }
        text
    }

    fn is_of_use(&self) -> bool {
        !self.uris.is_empty() && self.components.iter().any(|component| component == "main")
    }
}

/// What to do where this cannot be done.
fn elsewhere(why: &str) -> String {
    format!("{why}; the set-up takes packages of Debian 12: run it there, or in a container of it")
}

fn codename(release: &str) -> Option<String> {
    let value = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    value("VERSION_CODENAME").filter(|_| value("ID").as_deref() == Some("debian"))
}

fn belongs(suite: &str, codename: &str) -> bool {
    suite.strip_prefix(codename).is_some_and(|rest| matches!(rest, "" | "-updates" | "-security" | "/updates"))
}

fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

/// The files that apt reads, in its order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("sources.list.d")).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_source(path)).collect();
    files.sort();
    let main = folder.join("sources.list");
    if main.exists() {
        files.insert(0, main);
    }
    files
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
}

/// The sources of a `.list` file: `deb [option=value …] URI suite component…`.
fn lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(|line| of_line(line.split('#').next().unwrap_or(""))).filter(Source::is_of_use).collect()
}

fn of_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => ("", rest),
    };
    let options = options.split_whitespace().filter_map(|option| option.split_once('='));
    let options = options.filter(|(name, _)| *name != "arch");
    let options = options.map(|(name, value)| (name.to_owned(), value.replace(',', " "))).collect();
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    Some(Source { uris: vec![uri], suites: vec![suite], components: words.collect(), options })
}

/// The sources of a `.sources` file: stanzas with an empty line between them.
fn stanzas(text: &str) -> Vec<Source> {
    let mut stanzas = vec![Vec::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.trim().is_empty() {
            stanzas.push(Vec::new());
        } else {
            stanzas.last_mut().expect("there is one from the start").push(line);
        }
    }
    stanzas.iter().filter_map(|lines| of_stanza(&fields(lines))).filter(Source::is_of_use).collect()
}

/// Names and values; a line that starts with a blank goes on with the value before it.
fn fields(lines: &[&str]) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        match (line.starts_with([' ', '\t']), fields.last_mut(), line.split_once(':')) {
            (true, Some((_, value)), _) => *value += &format!("\n{line}"),
            (false, _, Some((name, value))) => fields.push((name.to_owned(), value.trim().to_owned())),
            _ => {}
        }
    }
    fields
}

fn of_stanza(fields: &[(String, String)]) -> Option<Source> {
    let value =
        |wanted: &str| fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
    let words = |wanted: &str| -> Vec<String> {
        value(wanted).map(|value| value.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    };
    let is_off =
        value("Enabled").is_some_and(|value| matches!(value.to_lowercase().as_str(), "no" | "false" | "off" | "0"));
    if is_off || !words("Types").iter().any(|kind| kind == "deb") {
        return None;
    }
    let known = ["Types", "URIs", "Suites", "Components", "Architectures", "Enabled"];
    let options = fields.iter().filter(|(name, _)| !known.iter().any(|known| name.eq_ignore_ascii_case(known)));
    let options = options.cloned().collect();
    Some(Source { uris: words("URIs"), suites: words("Suites"), components: words("Components"), options })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
# A comment
Types: deb deb-src
URIs: http://mirror.example/debian
# Another
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/a.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDME

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://other.example/tool
Suites: ./

";

    const LINES: &str = "\
# deb http://old.example/debian bookworm main
deb [ arch=amd64,arm64 signed-by=/k.gpg trusted=yes ] http://mirror.example/debian bookworm main non-free # why
deb-src http://mirror.example/debian bookworm main
deb\thttp://mirror.example/security bookworm-security main
deb http://other.example/tool stable other
";

    fn machine(sources: Vec<Source>) -> Machine {
        Machine { codename: "bookworm".to_owned(), sources }
    }

    #[test]
    fn stanzas_are_read_and_written() {
        let machine = machine(stanzas(STANZAS));
        let own = machine.own().unwrap();
        let expected = "\
Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main
Signed-By: /usr/share/keyrings/a.gpg

Types: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\nComponents: main
Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDME
";
        assert_eq!(own, expected);
        assert_eq!(stanzas(&own), stanzas(expected));
        assert!(machine.other("trixie").unwrap().contains("URIs: http://mirror.example/debian\nSuites: trixie\n"));
    }

    #[test]
    fn lines_are_read_and_written() {
        let machine = machine(lines(LINES));
        let expected = "\
Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\nsigned-by: /k.gpg\ntrusted: yes

Types: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\nComponents: main
";
        assert_eq!(machine.own().unwrap(), expected);
        assert!(
            machine
                .other("trixie")
                .unwrap()
                .ends_with("Suites: trixie\nComponents: main\nsigned-by: /k.gpg\ntrusted: yes\n")
        );
    }

    #[test]
    fn sources_of_others_are_refused_with_a_remedy() {
        let message = machine(lines("deb http://other.example/tool stable main")).other("trixie").unwrap_err();
        assert!(message.contains("do not name bookworm;") && message.contains("container"), "{message}");
        let message = machine(lines("deb http://mirror.example/debian bookworm main")).own().unwrap_err();
        assert!(message.contains("bookworm-security"), "{message}");
        for broken in ["deb", "deb [a=b http://x bookworm main", "deb http://x", "debx http://x bookworm main"] {
            assert_eq!(lines(broken), []);
        }
        assert_eq!(stanzas(" continued\nTypes deb\n"), []);
    }

    #[test]
    fn the_release_has_a_name() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n").as_deref(), Some("bookworm"));
        assert_eq!(codename("ID=\"debian\"\nVERSION_CODENAME=\"trixie\"\n").as_deref(), Some("trixie"));
        assert_eq!(codename("ID=other\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(codename(""), None);
    }
}
