//! Debian's packages without installing them: a private state of apt, and archives that are unpacked into a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{run, say};

const REMEDY: &str = "The set-up needs Debian's package mirror; is the network there, and does `apt-get update` work?";

/// A state of apt below one folder, which sees the sources that it is given. The machine's own state is only read.
pub(super) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Fetches the lists of packages. The folder belongs to the state and may be removed afterwards.
    pub(super) fn open(folder: PathBuf, sources: &str) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        for inside in ["state/lists/partial", "cache/archives/partial", "sources", "exact"] {
            fs::create_dir_all(folder.join(inside)).map_err(failed)?;
        }
        fs::write(folder.join("sources/raon.sources"), sources).map_err(failed)?;
        // A copy, because apt locks the folder in which this file lies.
        fs::copy("/var/lib/dpkg/status", folder.join("status")).map_err(|error| format!("dpkg's status: {error}"))?;
        fs::write(folder.join("apt.conf"), configuration(&folder)).map_err(failed)?;
        let apt = Self { folder };
        say("reading the lists of packages");
        run("the lists of packages", apt.command().arg("update"), REMEDY)?;
        Ok(apt)
    }

    /// Fetches these packages and nothing else.
    pub(super) fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>, String> {
        say(&format!("fetching {}", packages.join(" ")));
        let folder = self.folder.join("exact");
        run("fetching packages", self.command().arg("download").args(packages).current_dir(&folder), REMEDY)?;
        archives(&folder)
    }

    /// Fetches these packages, and those of which they need that are not installed on the machine.
    pub(super) fn download_missing(&self, packages: &[&str]) -> Result<Vec<PathBuf>, String> {
        say(&format!("fetching {} and what they need", packages.join(" ")));
        let words = ["install", "--download-only", "--reinstall", "--no-install-recommends", "--assume-yes"];
        run("fetching packages", self.command().args(words).args(packages), REMEDY)?;
        archives(&self.folder.join("cache/archives"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.arg("-q").arg("-c").arg(self.folder.join("apt.conf")).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// Unpacks archives into a folder, and names them with their versions, a line each.
pub(super) fn unpack(archives: &[PathBuf], into: &Path) -> Result<String, String> {
    say(&format!("unpacking {} packages", archives.len()));
    let mut versions = Vec::new();
    for archive in archives {
        run("unpacking", Command::new("dpkg").arg("-x").arg(archive).arg(into), "Is there room on the disk?")?;
        versions.push(version(archive).ok_or_else(|| format!("{} is no package's name", archive.display()))?);
    }
    Ok(versions.join("\n"))
}

/// Read after the machine's own configuration, from which proxies and credentials come. No hook of it is for us.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
Dir::State \"{folder}/state\";
Dir::State::status \"{folder}/status\";
Dir::Cache \"{folder}/cache\";
Dir::Etc::sourcelist \"/dev/null\";
Dir::Etc::sourceparts \"{folder}/sources\";
Dir::Etc::preferences \"/dev/null\";
Dir::Etc::preferencesparts \"/dev/null\";
Dir::Log \"{folder}\";
APT::Sandbox::User \"root\";
APT::Update::Error-Mode \"any\";
APT::Keep-Downloaded-Packages \"true\";
Binary::apt-get::APT::Keep-Downloaded-Packages \"true\";
Acquire::Languages \"none\";
Acquire::Retries \"3\";
"
    )
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut archives: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect();
    archives.sort();
    if archives.is_empty() { Err(format!("apt has left no package in {}", folder.display())) } else { Ok(archives) }
}

/// `name=version`, from the archive's name, in which a colon is written as `%3a`.
fn version(archive: &Path) -> Option<String> {
    let mut parts = archive.file_stem()?.to_str()?.split('_');
    Some(format!("{}={}", parts.next()?, parts.next()?.replace("%3a", ":")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_name_their_versions() {
        let of = |name: &str| version(Path::new(name));
        assert_eq!(of("/a/wine64_10.0~repack-6_amd64.deb").as_deref(), Some("wine64=10.0~repack-6"));
        assert_eq!(of("libllvm22_1%3a22.1.8-1~deb12u1_amd64.deb").as_deref(), Some("libllvm22=1:22.1.8-1~deb12u1"));
        assert_eq!(of("nothing.deb"), None);
    }

    #[test]
    fn all_of_the_state_is_private() {
        let text = configuration(Path::new("/private"));
        let settings: Vec<&str> = text.lines().filter(|line| line.starts_with("Dir::")).collect();
        assert!(
            settings.len() >= 7 && settings.iter().all(|line| line.contains("/private") || line.contains("/dev/null"))
        );
    }
}
