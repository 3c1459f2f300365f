//! Lists of tests that programs print for `--list`: a run that has lost its tests would be green for nothing.

/// How many tests are listed. That none begins as one that must be among them is an error.
pub(crate) fn count(name: &str, includes: &[&str], listed: &str) -> Result<usize, String> {
    let tests = tests(listed);
    match includes.iter().find(|start| !tests.iter().any(|test| test.starts_with(**start))) {
        Some(missing) => Err(format!("{name}: none of its {} tests begins with `{missing}`", tests.len())),
        None => Ok(tests.len()),
    }
}

/// Their names. Windows ends lines in its own way.
fn tests(listed: &str) -> Vec<&str> {
    listed.lines().filter_map(|line| line.trim_end().strip_suffix(": test")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_lost_its_tests_is_an_error() {
        let listed = "a::one: test\r\nb::two: test\nnothing\n2 tests, 0 benchmarks\n";
        assert_eq!(tests(listed), ["a::one", "b::two"]);
        assert_eq!(count("leg", &["a::", "b::"], listed), Ok(2));
        assert!(count("leg", &["a::", "b::"], "a::one: test\n").unwrap_err().contains("`b::`"));
        assert!(count("leg", &["a::"], "").is_err());
    }
}
