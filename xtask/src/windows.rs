//! `cargo xtask windows`: Windows programs on Linux. It sets up what that takes, builds, and runs under Wine.

mod apt;
pub(crate) mod cache;
pub(crate) mod cross;
mod legs;
mod run;
mod sources;
mod standard;
mod version;
mod wine;

use std::path::Path;

use run::Windows;

const USAGE: &str = "\
usage: cargo xtask windows [VERB]

  setup                           fetch and build what the others need, and do nothing else
  test [LEG…] [-- FILTER…]        build the tests for Windows and run them under Wine; what follows `--` goes to the tests
  test --list                     print the legs, and which tests do not run, with the reasons
  demo [-- ARGUMENT…]             `raon demo --seconds 1` under Wine, or with these arguments
  bench [-- ARGUMENT…]            `raon bench rio-gate --rounds 1 --seconds 1`, or with these arguments, on the double of
                                  registered I/O, because Wine has none: that it comes to a verdict; figures mean nothing

Without a verb it is `test`. It takes a Debian 12 on x86-64. Nothing is installed: what is fetched and built lies in
$RAON_CACHE, else $XDG_CACHE_HOME/raon, else ~/.cache/raon. Remove that folder to begin anew, with newer versions.";

/// Short enough for a gate, and long enough to bring bytes back on each back end.
const DEMO: [&str; 2] = ["--seconds", "1"];
const BENCH: [&str; 4] = ["--rounds", "1", "--seconds", "1"];

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let end = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
    let (words, rest) = (&arguments[..end], arguments.get(end + 1..).unwrap_or(&[]));
    match *words {
        ["setup"] if rest.is_empty() => Windows::set_up(root).map(drop),
        ["test", "--list"] => {
            print!("{}", run::list());
            Ok(())
        }
        ["demo"] => Windows::set_up(root)?.raon(&["--bin", "raon"], &["demo"], asked(rest, &DEMO)),
        ["bench"] => Windows::set_up(root)?.raon(&["--example", "double"], &["bench", "rio-gate"], asked(rest, &BENCH)),
        [] => Windows::set_up(root)?.test(&[], rest),
        ["test", ref legs @ ..] if legs.iter().all(|leg| !leg.starts_with('-')) => {
            Windows::set_up(root)?.test(legs, rest)
        }
        _ => Err(USAGE.to_owned()),
    }
}

/// What is asked for, else what is enough.
fn asked<'a>(arguments: &'a [&'a str], enough: &'a [&'a str]) -> &'a [&'a str] {
    if arguments.is_empty() { enough } else { arguments }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_misspelt_sets_nothing_up() {
        for wrong in [&["tests"][..], &["demo", "--seconds"], &["setup", "--", "x"], &["test", "--lst"], &["--help"]] {
            assert_eq!(run(Path::new("/nowhere"), wrong), Err(USAGE.to_owned()), "{wrong:?}");
        }
    }
}
