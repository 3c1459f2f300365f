//! Wine 10, unpacked and never installed, and a runner that cargo starts Windows programs with.
//!
//! 1. The packages of a newer release are unpacked into one folder: that Wine has what Rust's standard library asks for,
//!    and Debian 12's own has not.
//! 2. It needs a newer C library than the machine's, which is among them. The two programs that are started, and no
//!    other, are told to use it.
//! 3. A prefix, the folder that Windows programs see as their disk, is made once and shared by all runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::apt::{Apt, unpack};
use super::cache::Cache;
use super::command::{find, run, say};
use super::sources::Machine;

const SUITE: &str = "trixie";
/// Wine and what it links to. `zlib1.dll` is in the last one, and some of Wine's own libraries do not load without it.
const PACKAGES: [&str; 7] = ["wine64", "libwine", "libc6", "libunwind8", "liblzma5", "libgcc-s1", "libz-mingw-w64"];
/// How the parts are made. To be counted up when that changes, so that they are made anew.
const WINE_RECIPE: &str = "wine 1";
const PREFIX_RECIPE: &str = "wine-prefix 1";
const PATCHELF_RECIPE: &str = "patchelf 1";

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const PROGRAMS: &str = "usr/lib/wine";
/// Neither .NET nor HTML nor menus: each would be asked for in a window, and nobody is there to click.
const OVERRIDES: &str = "mscoree,mshtml,winemenubuilder.exe=";
/// A program that takes longer hangs. The suite ends a test of its own after a minute.
const RUN_SECONDS_MAX: u32 = 1200;
/// Making the prefix takes about ten seconds.
const INIT_SECONDS_MAX: u32 = 300;

/// Makes what is missing and returns the runner: a program that takes a Windows program and its arguments.
pub(super) fn set_up(cache: &Cache) -> Result<PathBuf, String> {
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
    let prefix = cache.part("wine-prefix", &recipe, |partial, place| make_prefix(partial, place, &wine))?;
    Ok(prefix.join("run"))
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
exec timeout --verbose --foreground --kill-after=10 {seconds_max} {} \"$@\"
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
