//! Profiles of a server: who may connect, and the limits that follow.

use serde::{Deserialize, Serialize};

use super::ServerConfig;

/// Profile of a server, by who may connect to it. A profile sets the limits of what one peer, or one address, may take; each
/// can be set besides, and has the last word. Without a profile there are no limits, and the server warns of it when it
/// starts.
///
/// | field | `public` | why | `lan` |
/// |---|---|---|---|
/// | `idle_timeout_ms` | 120,000 | a peer that vanished without a word is gone in two minutes; a player who thinks is not | 0 |
/// | `sessions_per_address_max` | 64 | households and schools behind one address fit; it takes a thousand addresses to fill 65,536 places | 0 |
/// | `messages_per_second_max` | 250 | four times an input per frame at 60 Hz | 0 |
/// | `messages_burst` | 500 | two seconds of it, after a pause of the network | 0 |
/// | `bytes_per_second_max` | 131,072 | 250 messages of 500 bytes | 0 |
/// | `bytes_burst` | 524,288 | four seconds of it: a long message now and then; a framing with a higher limit needs more | 0 |
///
/// The handshake's deadline of ten seconds is on in either.
///
/// ```
/// use raon::{ServerConfig, Profile};
/// let config = ServerConfig::from_toml("profile = 'public'\nidle_timeout_ms = 30000")?;
/// assert_eq!((config.profile(), config.idle_timeout_ms), (Some(Profile::Public), 30_000));
/// assert_eq!(config.sessions_per_address_max, 64);
/// # Ok::<(), raon::ConfigErrors>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Profile {
    /// Anybody: nobody may take more than a share.
    Public,
    /// Peers that are known: no limits.
    Lan,
}

impl ServerConfig {
    /// The defaults, with the limits of a profile.
    pub fn of(profile: Profile) -> Self {
        let mut config = ServerConfig::default();
        config.apply_profile(Some(profile));
        config
    }

    /// The profile, if one was chosen.
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }

    /// Sets the limits of a profile, whatever they were. `None`: forgets the profile, and leaves them.
    pub fn apply_profile(&mut self, profile: Option<Profile>) {
        self.profile = profile;
        let Some(profile) = profile else { return };
        let of = |public: u32| if profile == Profile::Public { public } else { 0 };
        self.idle_timeout_ms = of(120_000);
        self.sessions_per_address_max = of(64);
        self.messages_per_second_max = of(250);
        self.messages_burst = of(500);
        self.bytes_per_second_max = of(128 * 1024);
        self.bytes_burst = of(512 * 1024);
    }

    /// One line about what nobody has limited; `None` if nothing, or if a profile says that it is meant so.
    pub(crate) fn unlimited(&self) -> Option<String> {
        let limits = [
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("sessions_per_address_max", self.sessions_per_address_max),
            ("messages_per_second_max", self.messages_per_second_max),
            ("bytes_per_second_max", self.bytes_per_second_max),
        ];
        let names: Vec<&str> = limits.iter().filter(|(_, limit)| *limit == 0).map(|(name, _)| *name).collect();
        if self.profile.is_some() || names.is_empty() {
            return None;
        }
        let names = names.join(", ");
        Some(format!("not limited: {names}; set profile = \"public\" for limits, or \"lan\" if this is meant so"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigErrors;

    fn read(toml: &str, variables: &[(&str, &str)]) -> Result<ServerConfig, ConfigErrors> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ServerConfig::from_sources(Some(("raon.toml", toml)), variables)
    }

    #[test]
    fn a_profile_comes_before_all_that_is_set() {
        let public = ServerConfig::of(Profile::Public);
        // The order in the text means nothing.
        for toml in ["idle_timeout_ms = 5000\nprofile = 'public'", "profile = 'public'\nidle_timeout_ms = 5000"] {
            let config = read(toml, &[("RAON_MESSAGES_PER_SECOND_MAX", "0")]).unwrap();
            let expected = ServerConfig { idle_timeout_ms: 5000, messages_per_second_max: 0, ..public.clone() };
            assert_eq!(config, expected);
        }
        assert_eq!(read("profile = 'public'", &[("RAON_PROFILE", "lan")]).unwrap(), ServerConfig::of(Profile::Lan));
        assert_eq!(read("profile = 'public'", &[]).unwrap(), public);
        let lan = ServerConfig { profile: None, ..ServerConfig::of(Profile::Lan) };
        assert_eq!(lan, ServerConfig::default(), "without a profile all is as with lan, but for the warning");
    }

    #[test]
    fn a_profile_that_does_not_exist_is_an_error_and_named() {
        for errors in [read("profile = 'wan'", &[]), read("", &[("RAON_PROFILE", "wan")])].map(Result::unwrap_err) {
            let error = errors.iter().next().unwrap();
            assert_eq!((errors.iter().count(), error.field.as_str()), (1, "profile"));
            assert!(error.problem.contains("`public`") && error.problem.contains("`lan`"), "{error}");
        }
    }

    #[test]
    fn a_profile_is_had_as_a_part_of_another_file() {
        #[derive(Deserialize)]
        struct Game {
            server: ServerConfig,
        }
        let game: Game = toml::from_str("[server]\nprofile = 'public'\nbytes_burst = 1").unwrap();
        assert_eq!(game.server, ServerConfig { bytes_burst: 1, ..ServerConfig::of(Profile::Public) });
        let written = toml::to_string(&game.server).unwrap();
        assert_eq!(toml::from_str::<ServerConfig>(&written).unwrap(), game.server);
        for wrong in ["[server]\nprofil = 'lan'", "[server]\nworkers = 'many'"] {
            let error = toml::from_str::<Game>(wrong).err().unwrap().to_string();
            assert!(error.contains("profil") || error.contains("workers"), "{error}");
        }
    }

    #[test]
    fn the_warning_names_what_is_not_limited() {
        let said = ServerConfig::default().unlimited().unwrap();
        assert!(said.starts_with("not limited: idle_timeout_ms, sessions_per_address_max,") && !said.contains('\n'));
        let mut config = ServerConfig { idle_timeout_ms: 1, sessions_per_address_max: 1, ..ServerConfig::default() };
        assert!(config.unlimited().unwrap().starts_with("not limited: messages_per_second_max, bytes_per_second_max;"));
        (config.messages_per_second_max, config.bytes_per_second_max) = (1, 1);
        assert_eq!(config.unlimited(), None);
        assert_eq!(
            (ServerConfig::of(Profile::Public).unlimited(), ServerConfig::of(Profile::Lan).unlimited()),
            (None, None)
        );
    }
}
