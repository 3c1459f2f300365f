//! Sources of the values: a TOML text, then the environment.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::{ConfigError, ConfigErrors, Profile, ServerConfig};

/// Prefix of the names of variables.
const PREFIX: &str = "RAON_";
/// Read by the provider, which replaces `auto` by it and nothing else.
const BACKEND: &str = "RAON_BACKEND";
/// Which limits there are before anything else is set.
const PROFILE: &str = "profile";
const PROFILE_VARIABLE: &str = "RAON_PROFILE";

/// Names that fields had before, in files and variables, and those that they have now.
const RENAMED: [(&str, &str); 2] =
    [("inlet_bytes_max", "mailbox_bytes_max"), ("inlet_commands_max", "mailbox_commands_max")];

/// The name that a field of this name has now.
fn current(name: &str) -> &str {
    RENAMED.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new)
}

impl ServerConfig {
    /// Reads a TOML text and checks all values. Errors: all that is wrong.
    pub fn from_toml(text: &str) -> Result<Self, ConfigErrors> {
        ServerConfig::from_sources(Some(("TOML", text)), std::iter::empty())
    }

    /// Reads the environment of the process over the defaults. Errors: all that is wrong.
    pub fn from_environment() -> Result<Self, ConfigErrors> {
        ServerConfig::from_sources(None, std::env::vars_os().filter_map(text_of))
    }

    /// Reads a file, if there is one, and the environment of the process over it. Errors: all that is wrong with either.
    pub fn load(path: Option<&std::path::Path>) -> Result<Self, ConfigErrors> {
        ServerConfig::load_with(path, None)
    }

    /// As [`load`](Self::load), with a profile in place of the one that the file or the environment names.
    pub fn load_with(path: Option<&std::path::Path>, profile: Option<Profile>) -> Result<Self, ConfigErrors> {
        let name = path.map(|path| path.display().to_string()).unwrap_or_default();
        let text = path.map(std::fs::read_to_string).transpose();
        let variables = std::env::vars_os().filter_map(text_of);
        match text {
            Ok(text) => ServerConfig::read(text.as_deref().map(|text| (name.as_str(), text)), variables, profile),
            Err(error) => {
                let unread = ConfigError { field: String::new(), source: name, problem: error.to_string() };
                let others = ServerConfig::from_sources(None, variables).err();
                Err(ConfigErrors(std::iter::once(unread).chain(others.into_iter().flat_map(|all| all.0)).collect()))
            }
        }
    }

    /// Reads a TOML text with its name, and variables over it. Errors: all that is wrong with either.
    pub fn from_sources(
        toml: Option<(&str, &str)>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        ServerConfig::read(toml, variables, None)
    }

    fn read(
        toml: Option<(&str, &str)>,
        variables: impl Iterator<Item = (String, String)>,
        chosen: Option<Profile>,
    ) -> Result<Self, ConfigErrors> {
        let (mut config, mut errors) = (ServerConfig::default(), Vec::new());
        let variables: Vec<(String, String)> = variables.collect();
        let mut profile = None;
        let table = toml.and_then(|(source, text)| parse(source, text, &mut errors).map(|table| (source, table)));
        if let Some(value) = table.as_ref().and_then(|(_, table)| table.get(PROFILE)) {
            let source = table.as_ref().map_or("", |(source, _)| source);
            note(read_profile(value.clone()), source, &mut profile, &mut errors);
        }
        if let Some((variable, text)) = variables.iter().find(|(variable, _)| variable == PROFILE_VARIABLE) {
            note(read_profile(Value::String(text.clone())), variable, &mut profile, &mut errors);
        }
        config.apply_profile(chosen.or(profile));
        if let Some((source, table)) = table {
            config.apply_table(source, table, &mut errors);
        }
        config.apply_variables(variables.into_iter(), &mut errors);
        // A field that could not be read keeps its default, which is in order by itself.
        config.collect_problems(&mut errors);
        ConfigErrors::check(errors).map(|()| config)
    }

    fn apply_table(&mut self, source: &str, table: Table, errors: &mut Vec<ConfigError>) {
        let mut complain = |field: &str, problem: String| {
            errors.push(ConfigError { field: field.to_owned(), source: source.to_owned(), problem });
        };
        for (name, value) in table {
            match self.set(current(&name), value) {
                Some(Ok(())) => {}
                Some(Err(problem)) => complain(&name, problem),
                None => complain(&name, "there is no such field; correct its name or remove it".to_owned()),
            }
        }
    }

    fn apply_variables(&mut self, variables: impl Iterator<Item = (String, String)>, errors: &mut Vec<ConfigError>) {
        for (variable, text) in variables.filter(|(variable, _)| variable != BACKEND) {
            let Some(name) = variable.strip_prefix(PREFIX).map(str::to_ascii_lowercase) else { continue };
            let name = current(&name).to_owned();
            // Other variables of that prefix belong to others, for example to tests.
            if !ServerConfig::NAMES.contains(&name.as_str()) {
                continue;
            }
            if let Err(problem) = self.set_text(&name, text) {
                errors.push(ConfigError { field: name, source: variable, problem });
            }
        }
    }

    /// A text may mean a number or a truth value, or itself.
    fn set_text(&mut self, name: &str, text: String) -> Result<(), String> {
        let value = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
        let read = value.and_then(|value| self.set(name, value));
        match read {
            Some(Ok(())) => Ok(()),
            first => {
                let second = self.set(name, Value::String(text)).unwrap_or(Ok(()));
                second.map_err(|problem| first.and_then(Result::err).unwrap_or(problem))
            }
        }
    }
}

/// As a part of a larger text. Values are not checked against each other: [`ServerConfig::validate`] does that.
impl<'de> Deserialize<'de> for ServerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        let (mut config, mut errors, mut profile) = (ServerConfig::default(), Vec::new(), None);
        if let Some(value) = table.get(PROFILE) {
            note(read_profile(value.clone()), "", &mut profile, &mut errors);
        }
        config.apply_profile(profile);
        config.apply_table("", table, &mut errors);
        ConfigErrors::check(errors).map(|()| config).map_err(D::Error::custom)
    }
}

fn parse(source: &str, text: &str, errors: &mut Vec<ConfigError>) -> Option<Table> {
    let unread = |error: toml::de::Error| {
        let problem = error.to_string().trim().to_owned();
        errors.push(ConfigError { field: String::new(), source: source.to_owned(), problem });
    };
    text.parse().map_err(unread).ok()
}

fn read_profile(value: Value) -> Result<Profile, String> {
    value.try_into().map_err(super::one_line)
}

fn note(read: Result<Profile, String>, source: &str, profile: &mut Option<Profile>, errors: &mut Vec<ConfigError>) {
    match read {
        Ok(read) => *profile = Some(read),
        Err(problem) => {
            errors.push(ConfigError { field: PROFILE.to_owned(), source: source.to_owned(), problem });
        }
    }
}

fn text_of((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OnPanic, SlowConsumerPolicy};

    fn read(toml: &str, variables: &[(&str, &str)]) -> Result<ServerConfig, ConfigErrors> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ServerConfig::from_sources(Some(("raon.toml", toml)), variables)
    }

    #[test]
    fn the_environment_has_the_last_word() {
        let toml = "listen = '0.0.0.0:7000'\nslow_consumer = 'disconnect'\nsessions_max = 10\nreuse_port = true";
        let variables = [
            ("RAON_SESSIONS_MAX", "20"),
            ("RAON_ON_PANIC", "stop_shard"),
            ("RAON_REUSE_PORT", "false"),
            ("RAON_BACKEND", "nonsense, which the provider looks at"),
            ("RAON_FAULTS", "not ours"),
            ("PATH", "/bin"),
        ];
        let config = read(toml, &variables).unwrap();
        assert_eq!((config.listen.as_str(), config.sessions_max, config.reuse_port), ("0.0.0.0:7000", 20, false));
        assert_eq!((config.slow_consumer, config.on_panic), (SlowConsumerPolicy::Disconnect, OnPanic::StopShard));
        assert_eq!(config.backend, "auto");
    }

    #[test]
    fn old_names_of_fields_are_heard() {
        let variables = [("RAON_INLET_BYTES_MAX", "70000")];
        let config = read("inlet_bytes_max = 1\ninlet_commands_max = 77", &variables).unwrap();
        assert_eq!((config.mailbox_bytes_max, config.mailbox_commands_max), (70_000, 77));
    }

    #[test]
    fn all_errors_come_at_once() {
        let toml = "sessions_max = 'many'\nno_such_field = 1\nwatermark_low_bytes = 100000\nbackend = 'magic'";
        let errors = read(toml, &[("RAON_TICK_MS", "often"), ("RAON_WORKERS", "129")]).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        let expected = ["sessions_max", "no_such_field", "tick_ms", "backend", "workers", "watermark_low_bytes"];
        assert_eq!(fields.len(), expected.len(), "{errors}");
        assert!(expected.iter().all(|field| fields.contains(field)), "{errors}");
        assert!(errors.to_string().contains("RAON_TICK_MS"), "{errors}");
    }

    #[test]
    fn a_text_that_is_no_toml_is_one_error() {
        let errors = read("sessions_max = = 3", &[("RAON_WORKERS", "x")]).unwrap_err();
        assert_eq!(errors.iter().count(), 2, "{errors}");
        assert!(errors.iter().any(|error| error.field.is_empty() && error.source == "raon.toml"));
    }

    #[test]
    fn what_was_written_reads_the_same() {
        let config = ServerConfig { tick_ms: 33, on_panic: OnPanic::StopShard, ..ServerConfig::default() };
        assert_eq!(read(&toml::to_string(&config).unwrap(), &[]).unwrap(), config);
    }
}
