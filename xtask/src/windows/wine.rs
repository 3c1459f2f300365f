//! Wine 10, unpacked and never installed, and a runner that cargo starts Windows programs with.
//!
//! 1. The packages of a newer release are unpacked into one folder: that Wine has what Rust's standard library asks for,
//!    and Debian 12's own has not.
//! 2. It needs a newer C library than the machine's, which is among them. The two programs that are started, and no
//!    other, are told to use it.
//! 3. A prefix, the folder that Windows programs see as their disk, is made once and shared by all runs. There is one for
//!    each processor that takes part, because a prefix has one server, which all its programs ask for everything.
//! 4. A program and its server take turns. On one processor they hand over to each other; on two, each waits until the other's
//!    has woken up, which takes several times as long on a virtual machine. So a runner keeps to one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::apt::{Apt, unpack};
use super::cache::Cache;
use super::sources::Machine;
use crate::command::{find, run, say};

const SUITE: &str = "trixie";
/// Wine and what it links to. `zlib1.dll` is in the last one, and some of Wine's own libraries do not load without it.
const PACKAGES: [&str; 7] = ["wine64", "libwine", "libc6", "libunwind8", "liblzma5", "libgcc-s1", "libz-mingw-w64"];
/// How the parts are made. To be counted up when that changes, so that they are made anew.
const WINE_RECIPE: &str = "wine 1";
const PREFIX_RECIPE: &str = "wine-prefix 2";
const PATCHELF_RECIPE: &str = "patchelf 1";

/// The setting that cargo takes the runner from.
const RUNNER: &str = "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER";
/// Tells a runner where to run. Without it, anywhere.
const PROCESSOR: &str = "RAON_WINE_PROCESSOR";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const PROGRAMS: &str = "usr/lib/wine";
/// Neither .NET nor HTML nor menus: each would be asked for in a window, and nobody is there to click.
const OVERRIDES: &str = "mscoree,mshtml,winemenubuilder.exe=";
/// A program that takes longer hangs. The suite ends a test of its own after a minute.
const RUN_SECONDS_MAX: u32 = 1200;
/// Making the prefix takes about ten seconds.
const INIT_SECONDS_MAX: u32 = 300;
/// Processors that take part: no leg is shorter than the longest one, which is a third of them all.
const RUNNERS_MAX: usize = 2;

/// What runs Windows programs.
pub(super) struct Runner {
    /// Takes a Windows program and its arguments.
    pub(super) program: PathBuf,
    /// Where it runs them.
    pub(super) processor: u32,
}

impl Runner {
    /// Makes cargo run by it what it has built for Windows.
    pub(super) fn lead(&self, cargo: &mut Command) {
        cargo.env(RUNNER, &self.program).env(PROCESSOR, self.processor.to_string());
    }
}

/// Makes what is missing and returns what programs can be run by at the same time: one at least.
pub(super) fn set_up(cache: &Cache) -> Result<Vec<Runner>, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("Wine is set up on x86-64 Linux only; on Windows itself `cargo test` is enough".to_owned());
    }
    let wine = cache.part("wine", WINE_RECIPE, |partial, place| {
        let patchelf = patchelf(cache)?;
        say(&format!("Wine from {SUITE}: 110 MB to fetch"));
        unpack_wine(partial, place, &patchelf)
    })?;
    // One prefix belongs to one Wine.
    let recipe = format!("{PREFIX_RECIPE}, {}", Cache::versions(&wine)?.replace('\n', " "));
    let status = fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    let mut runners = Vec::new();
    for (processor, number) in processors(&status)?.into_iter().take(RUNNERS_MAX).zip(1..) {
        let name = format!("wine-prefix-{number}");
        let prefix = cache.part(&name, &recipe, |partial, place| make_prefix(partial, place, &wine))?;
        runners.push(Runner { program: prefix.join("run"), processor });
    }
    Ok(runners)
}

/// Where this process may run: `Cpus_allowed_list` of its status, such as `0-2,5`.
fn processors(status: &str) -> Result<Vec<u32>, String> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or("").trim();
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    let ranges: Option<Vec<_>> = list.split(',').map(range).collect();
    let ranges = ranges.ok_or_else(|| format!("/proc/self/status: `{list}` is no list of processors"))?;
    Ok(ranges.into_iter().flatten().collect())
}

fn unpack_wine(partial: &Path, place: &Path, patchelf: &Path) -> Result<String, String> {
    let state = partial.join("apt");
    let apt = Apt::open(state.clone(), &Machine::read()?.other(SUITE)?)?;
    let versions = unpack(&apt.download(&PACKAGES)?, partial)?;
    let failed = |error: std::io::Error| format!("{}: {error}", partial.display());
    fs::remove_dir_all(state).map_err(failed)?;

    // Its tables are looked for below a folder of its own name, which the package does not have.
    run("Wine's tables", Command::new("ln").args(["-s", "."]).arg(partial.join("usr/share/wine/wine")), "")?;
    let server = format!("#!/bin/sh\nexec {} \"$@\"\n", place.join(PROGRAMS).join("wineserver64").display());
    write_script(&partial.join(PROGRAMS).join("wineserver"), &server)?;

    let loader = place.join(LIBRARIES).join("ld-linux-x86-64.so.2");
    let libraries = format!("{}:{}", place.join(LIBRARIES).display(), place.join("lib/x86_64-linux-gnu").display());
    for program in ["wine64", "wineserver64"] {
        let mut command = Command::new(patchelf);
        command.arg("--set-interpreter").arg(&loader).arg("--set-rpath").arg(&libraries);
        run("Wine's C library", command.arg(partial.join(PROGRAMS).join(program)), "Is this the patchelf of Debian?")?;
    }
    Ok(versions)
}

/// The machine's own, or one that is unpacked.
fn patchelf(cache: &Cache) -> Result<PathBuf, String> {
    if let Some(program) = find("patchelf") {
        return Ok(program);
    }
    let part = cache.part("patchelf", PATCHELF_RECIPE, |partial, _| {
        let state = partial.join("apt");
        let apt = Apt::open(state.clone(), &Machine::read()?.own()?)?;
        let versions = unpack(&apt.download_missing(&["patchelf"])?, partial)?;
        fs::remove_dir_all(state).map_err(|error| format!("{}: {error}", partial.display()))?;
        Ok(versions)
    })?;
    Ok(part.join("usr/bin/patchelf"))
}

fn make_prefix(partial: &Path, place: &Path, wine: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", partial.display());
    say("making Wine's prefix: 10 s");
    let system = partial.join("disk/drive_c/windows/system32");
    fs::create_dir_all(&system).map_err(failed)?;
    fs::copy(wine.join("usr/x86_64-w64-mingw32/lib/zlib1.dll"), system.join("zlib1.dll")).map_err(failed)?;

    let first = partial.join("first-run");
    write_script(&first, &script(wine, &partial.join("disk"), INIT_SECONDS_MAX))?;
    // Into a file, because what Wine starts in the background would keep a pipe open.
    let log = partial.join("log");
    let file = fs::File::create(&log).map_err(failed)?;
    let mut command = Command::new(&first);
    command.args(["wineboot", "--init"]).stdin(Stdio::null());
    command.stdout(file.try_clone().map_err(failed)?).stderr(file);
    let status = command.status().map_err(failed)?;
    if !status.success() {
        let printed = fs::read_to_string(&log).unwrap_or_default();
        return Err(format!("Wine's prefix: `wineboot --init` ended with {status}\n{printed}"));
    }
    let mut server = Command::new(wine.join(PROGRAMS).join("wineserver64"));
    run("Wine's prefix", server.arg("-w").env("WINEPREFIX", partial.join("disk")), "")?;

    share(&system, &wine.join(LIBRARIES).join("wine/x86_64-windows")).map_err(failed)?;
    fs::remove_file(first).and_then(|()| fs::remove_file(log)).map_err(failed)?;
    write_script(&partial.join("run"), &script(wine, &place.join("disk"), RUN_SECONDS_MAX))?;
    Cache::versions(wine)
}

/// Wine copies its libraries, 700 MB of them. Those that are the same as where they came from take no room twice.
fn share(copies: &Path, originals: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(copies)? {
        let copy = entry?.path();
        let original = originals.join(copy.file_name().unwrap_or_default());
        let size = |path: &Path| path.metadata().map(|metadata| metadata.len()).ok();
        if !copy.is_file() || size(&copy) != size(&original) || fs::read(&copy)? != fs::read(&original)? {
            continue;
        }
        let link = copy.with_extension("link");
        fs::hard_link(&original, &link)?;
        fs::rename(link, copy)?;
    }
    Ok(())
}

/// What runs a Windows program. Its exit code passes through; 124 says that it took too long.
fn script(wine: &Path, disk: &Path, seconds_max: u32) -> String {
    let (server, program) = (wine.join(PROGRAMS).join("wineserver64"), wine.join(PROGRAMS).join("wine64"));
    format!(
        "\
#!/bin/sh
# Made by `cargo xtask windows`.
unset DISPLAY WAYLAND_DISPLAY LD_LIBRARY_PATH
export WINEPREFIX={} WINESERVER={} WINEDEBUG=\"${{WINEDEBUG:--all}}\" WINEDLLOVERRIDES='{OVERRIDES}'
exec ${{{PROCESSOR}:+taskset --cpu-list ${PROCESSOR}}} \\
    timeout --verbose --foreground --kill-after=10 {seconds_max} {} \"$@\"
",
        disk.display(),
        server.display(),
        program.display(),
    )
}

fn write_script(path: &Path, text: &str) -> Result<(), String> {
    // What is there may belong to a package and be a link to elsewhere.
    drop(fs::remove_file(path));
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    run("a script", Command::new("chmod").arg("755").arg(path), "Can programs be run from there?").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands in for Wine, and ends as it is told.
    fn folder_with(program: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("raon-wine-{program}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(folder.join(PROGRAMS)).unwrap();
        folder
    }

    #[test]
    fn the_runner_passes_arguments_and_exit_codes() {
        let wine = folder_with("exit");
        let stand_in = "#!/bin/sh\necho \"$WINEPREFIX|$WINEDEBUG|$DISPLAY|$1\"\nexit $2\n";
        write_script(&wine.join(PROGRAMS).join("wine64"), stand_in).unwrap();
        let runner = wine.join("run");
        write_script(&runner, &script(&wine, Path::new("/disk"), 60)).unwrap();
        let mut command = Command::new(&runner);
        let output = command.args(["two words", "7"]).env("DISPLAY", ":0").env_remove("WINEDEBUG").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "/disk|-all||two words\n");
        assert_eq!(output.status.code(), Some(7));
        fs::remove_dir_all(wine).unwrap();
    }

    #[test]
    fn a_runner_keeps_to_its_processor() {
        let wine = folder_with("processor");
        write_script(&wine.join(PROGRAMS).join("wine64"), "#!/bin/sh\nexec cat /proc/self/status\n").unwrap();
        let program = wine.join("run");
        write_script(&program, &script(&wine, Path::new("/disk"), 60)).unwrap();
        let own = processors(&fs::read_to_string("/proc/self/status").unwrap()).unwrap();
        let processor = *own.last().unwrap();
        let mut command = Command::new(&program);
        Runner { program, processor }.lead(&mut command);
        let told = command.output().unwrap().stdout;
        assert_eq!(processors(&String::from_utf8_lossy(&told)), Ok(vec![processor]));
        fs::remove_dir_all(wine).unwrap();
    }

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(processors("Name:\tx\nCpus_allowed_list:\t0-2,5\n"), Ok(vec![0, 1, 2, 5]));
        assert!(processors("Cpus_allowed_list:\t0-x\n").unwrap_err().contains("`0-x`"));
        assert!(processors("Name:\tx\n").is_err());
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let wine = folder_with("hang");
        write_script(&wine.join(PROGRAMS).join("wine64"), "#!/bin/sh\nexec tail -f /dev/null\n").unwrap();
        let runner = wine.join("run");
        write_script(&runner, &script(&wine, Path::new("/disk"), 1)).unwrap();
        assert_eq!(Command::new(&runner).status().unwrap().code(), Some(124));
        fs::remove_dir_all(wine).unwrap();
    }

    #[test]
    fn only_equal_files_are_shared() {
        let folder = folder_with("share");
        let (copies, originals) = (folder.join("copies"), folder.join("originals"));
        for (name, copy, original) in [("same.dll", "aa", "aa"), ("other.dll", "ab", "aa"), ("longer.dll", "aaa", "aa")]
        {
            for (folder, text) in [(&copies, copy), (&originals, original)] {
                fs::create_dir_all(folder).unwrap();
                fs::write(folder.join(name), text).unwrap();
            }
        }
        fs::write(copies.join("alone.dll"), "aa").unwrap();
        share(&copies, &originals).unwrap();
        let links = |name: &str| std::os::unix::fs::MetadataExt::nlink(&copies.join(name).metadata().unwrap());
        assert_eq!(["same.dll", "other.dll", "longer.dll", "alone.dll"].map(links), [2, 1, 1, 1]);
        assert_eq!(fs::read_dir(&copies).unwrap().count(), 4);
        fs::remove_dir_all(folder).unwrap();
    }
}
