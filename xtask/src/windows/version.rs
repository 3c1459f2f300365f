//! Versions of Rust: that of a compiler, and the oldest one that the workspace promises to build with.

use std::fmt;
use std::path::Path;

/// Major, minor and patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32, u32);

impl Version {
    /// Two or three numbers with points between them; what follows a `-` or `+` says nothing of the order.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['-', '+']).next()?.split('.').map(|number| number.parse().ok());
        let version = Self(numbers.next()??, numbers.next()??, numbers.next().unwrap_or(Some(0))?);
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Of what `rustc --version` prints.
pub(super) fn of_compiler(printed: &str) -> Result<Version, String> {
    let version = printed.strip_prefix("rustc ").and_then(|rest| rest.split_whitespace().next());
    version.and_then(Version::parse).ok_or_else(|| format!("`rustc --version` says {printed:?}, which is no version"))
}

/// What the workspace's manifest says.
pub(super) fn of_workspace(root: &Path) -> Result<Version, String> {
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).map_err(|error| format!("Cargo.toml: {error}"))?;
    of_manifest(&manifest).ok_or_else(|| "Cargo.toml has no line `rust-version = \"…\"`".to_owned())
}

fn of_manifest(manifest: &str) -> Option<Version> {
    let value = manifest.lines().find_map(|line| line.strip_prefix("rust-version")?.trim_start().strip_prefix('='))?;
    Version::parse(value.trim().strip_prefix('"')?.split('"').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_say_their_version() {
        assert_eq!(of_compiler("rustc 1.96.0 (abc 2026-05-01) (built from a source tarball)\n"), Ok(Version(1, 96, 0)));
        assert_eq!(of_compiler("rustc 1.97.0-nightly (abc)").unwrap().to_string(), "1.97.0");
        for wrong in ["", "cargo 1.96.0", "rustc", "rustc one", "rustc 1.2.3.4"] {
            assert!(of_compiler(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_workspace_says_what_it_needs() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert_eq!(Some(of_workspace(&root).unwrap()), Version::parse(env!("CARGO_PKG_RUST_VERSION")));
        assert_eq!(of_manifest("a = 1\nrust-version = \"1.88\" # why\n"), Some(Version(1, 88, 0)));
        assert_eq!(of_manifest("rust-version.workspace = true\n"), None);
    }

    #[test]
    fn versions_are_in_order() {
        let of = |text| Version::parse(text).unwrap();
        assert!(of("1.88") < of("1.88.1") && of("1.88.1") < of("1.100") && of("1.100.0") < of("2.0"));
    }
}
