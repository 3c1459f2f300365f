//! A tool chain for targets that the machine's own may not know.
//!
//! 1. If the machine's `rustc` has the target's standard library, it is used, as `rustup target add` installs it.
//! 2. Else the newest Rust of Debian is unpacked, never installed, and the target's standard library is built from its
//!    sources, once: into the place where the compiler looks for it, so that nothing of it is built again.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::{Apt, unpack};
use super::cache::Cache;
use super::sources::Machine;
use super::standard::{self, Form};
use super::version::{self, Version};
use crate::command::{find, run, say};

/// The target that Wine runs.
pub(super) const WINDOWS: &str = "x86_64-pc-windows-gnu";

/// The compiler, cargo, clippy, and the sources of the standard library, all of one version. Security updates bring a new
/// one every few months.
const RUST_PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-clippy", "libstd-rust-web-dev", "rust-web-src"];
const LINKER_PACKAGE: &str = "gcc-mingw-w64-x86-64-posix";
const LINKERS: [&str; 2] = ["x86_64-w64-mingw32-gcc", "x86_64-w64-mingw32-gcc-posix"];
/// How the parts are made. To be counted up when that changes, so that they are made anew.
const RUST_RECIPE: &str = "rust 2";
const LINKER_RECIPE: &str = "mingw 1";
/// Where the libraries of packages lie, below the folder that they were unpacked into.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// A cargo with a compiler that has the standard library of a target.
pub(crate) struct ToolChain {
    name: String,
    program: PathBuf,
    /// Of which `cargo clippy` is made. Not found by cargo, which looks where the machine's own is before anywhere else.
    clippy: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    /// What an outer cargo has said of itself, and which would be taken for this one.
    foreign: &'static [&'static str],
}

impl ToolChain {
    /// One that can type-check for a target.
    pub(crate) fn for_checks(root: &Path, cache: &Cache, target: &str) -> Result<Self, String> {
        Self::choose(root, cache, target, Form::Metadata, Vec::new())
    }

    /// One that can make programs for `WINDOWS`.
    pub(super) fn for_programs(root: &Path, cache: &Cache) -> Result<Self, String> {
        let linker = linker(cache)?;
        // Its folder holds `dlltool` as well, which the compiler looks for by name, already for the standard library.
        let mut path: Vec<PathBuf> = linker.parent().map(PathBuf::from).into_iter().collect();
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let path = std::env::join_paths(path).map_err(|error| format!("PATH: {error}"))?;
        let environment = vec![("PATH", path), ("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER", linker.into())];
        Self::choose(root, cache, WINDOWS, Form::Code, environment)
    }

    fn choose(
        root: &Path,
        cache: &Cache,
        target: &str,
        form: Form,
        environment: Vec<(&'static str, OsString)>,
    ) -> Result<Self, String> {
        if has_library(target) {
            let program = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
            let clippy = program.clone();
            return Ok(Self { name: "installed".to_owned(), program, clippy, environment, foreign: &[] });
        }
        let made = Self::private(root, cache).and_then(|mut tools| {
            tools.environment.extend(environment);
            standard::provide(cache, &tools, target, form)?;
            Ok(tools)
        });
        made.map_err(|error| format!("{error}\nWhere rustup is, `rustup target add {target}` does as well."))
    }

    fn private(root: &Path, cache: &Cache) -> Result<Self, String> {
        let folder = cache.part("rust", RUST_RECIPE, |partial, _| unpack_rust(partial))?;
        let libraries = LIBRARIES.map(|libraries| folder.join(libraries));
        let libraries = std::env::join_paths(libraries).map_err(|error| format!("{}: {error}", folder.display()))?;
        let programs = folder.join("usr/bin");
        // A folder of its own, so that neither the machine's compiler nor this one finds what the other has built.
        let built = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let mut tools = Self {
            name: String::new(),
            program: programs.join("cargo"),
            clippy: programs.join("cargo-clippy"),
            environment: vec![
                ("RUSTC", programs.join("rustc").into()),
                ("RUSTDOC", programs.join("rustdoc").into()),
                ("LD_LIBRARY_PATH", libraries),
                ("CARGO_TARGET_DIR", root.join(built).join("cross").into()),
                // For clippy, which is a compiler by itself and looks for its own.
                ("SYSROOT", folder.join("usr").into()),
            ],
            foreign: &["CARGO", "CARGO_BUILD_TARGET", "RUSTUP_TOOLCHAIN"],
        };
        let mut rustc = tools.with_environment(Command::new(programs.join("rustc")));
        let printed = run("Debian's Rust", rustc.arg("--version"), "To set it up anew, remove its folder.")?;
        let has: Version = version::of_compiler(&printed)?;
        let needs = version::of_workspace(root)?;
        if has < needs {
            let folder = folder.display();
            return Err(format!(
                "The workspace needs Rust {needs}, and Debian's is {has}; to look for a newer one, remove {folder}"
            ));
        }
        tools.name = format!("Debian's {has}");
        Ok(tools)
    }

    /// Cargo, to be run in the workspace.
    pub(crate) fn cargo(&self, root: &Path) -> Command {
        self.started(root, &self.program)
    }

    fn started(&self, root: &Path, program: &Path) -> Command {
        let mut command = self.with_environment(Command::new(program));
        command.current_dir(root);
        // Nobody looks at it with a debugger: linking takes a fraction of the time.
        command.env("CARGO_PROFILE_DEV_DEBUG", "0");
        command
    }

    /// `cargo clippy`, as `cargo`.
    pub(crate) fn clippy(&self, root: &Path) -> Command {
        let mut command = self.started(root, &self.clippy);
        command.env("CARGO", &self.program).arg("clippy");
        command
    }

    /// Where the standard library comes from.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn with_environment(&self, mut command: Command) -> Command {
        for name in self.foreign {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Whether the machine's own compiler has the standard library of a target.
fn has_library(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output();
    let folder = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    folder.is_some_and(|folder| Path::new(String::from_utf8_lossy(&folder).trim()).exists())
}

fn unpack_rust(partial: &Path) -> Result<String, String> {
    say("Debian's Rust: 150 MB to fetch");
    let versions = unpack_missing(partial, &RUST_PACKAGES)?;
    // Of all the sources only those of the library are needed.
    let sources = fs::read_dir(partial.join("usr/src")).map_err(|error| format!("rust-web-src: {error}"))?;
    for entry in sources.flatten().filter_map(|tree| fs::read_dir(tree.path()).ok()).flatten().flatten() {
        if entry.file_name() != "library" {
            let removed =
                if entry.path().is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            removed.map_err(|error| format!("{}: {error}", entry.path().display()))?;
        }
    }
    Ok(versions)
}

/// The machine's own linker for `WINDOWS`, or one that is unpacked.
fn linker(cache: &Cache) -> Result<PathBuf, String> {
    if let Some(program) = LINKERS.iter().find_map(|name| find(name)) {
        return Ok(program);
    }
    let folder = cache.part("mingw", LINKER_RECIPE, |partial, _| {
        say("the linker for Windows programs: 40 MB to fetch");
        unpack_missing(partial, &[LINKER_PACKAGE])
    })?;
    Ok(folder.join("usr/bin").join(LINKERS[1]))
}

/// Unpacks packages of the machine's own release, with those of which they need that are not installed.
fn unpack_missing(partial: &Path, packages: &[&str]) -> Result<String, String> {
    let state = partial.join("apt");
    let apt = Apt::open(state.clone(), &Machine::read()?.own()?)?;
    let versions = unpack(&apt.download_missing(packages)?, partial)?;
    fs::remove_dir_all(state).map_err(|error| format!("{}: {error}", partial.display()))?;
    Ok(versions)
}
