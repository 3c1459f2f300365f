//! Validation: what values must be, each alone and with others.

use std::str::FromStr;

use raon_provider::{Address, Backend};

use super::{ConfigError, ConfigErrors, ServerConfig};
use crate::base::id::SHARDS_MAX;
use crate::memory::budget::SHARD_BYTES_MIN;

/// Most sessions of one shard: each takes a socket and up to six operations of its driver, of which there may be 2^20
/// together.
pub(crate) const SESSIONS_PER_SHARD_MAX: u32 = 131_072;
const TIMERS_MAX: u32 = (1 << 17) - 1024;
/// Least of `memory_bytes_max`: what a session may have in its outbox by default, four times.
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// Where to listen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Listen {
    At(Address),
    /// The listener that LISTEN_FDS names.
    Inherited,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "inherit" {
            return Ok(Listen::Inherited);
        }
        text.parse().map(Listen::At).map_err(|_| {
            format!("`{text}` is no ADDRESS:PORT, unix:/PATH, unix:@NAME or inherit; write 0.0.0.0:9000, for example")
        })
    }
}

impl ServerConfig {
    /// Checks all values. Errors: all that is wrong.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        self.collect_problems(&mut errors);
        ConfigErrors::check(errors)
    }

    /// Checks that so many shards can share the memory. Errors: how much it must be.
    pub(crate) fn check_shards(&self, shards: usize) -> Result<(), ConfigErrors> {
        ConfigErrors::check(self.memory_problem(shards as u64).into_iter().collect())
    }

    fn memory_problem(&self, shards: u64) -> Option<ConfigError> {
        let least = shards * SHARD_BYTES_MIN;
        let problem = || {
            let memory = self.memory_bytes_max;
            format!("{memory} is too little for {shards} shards; choose at least {least}, or fewer workers")
        };
        let error = || ConfigError { field: "memory_bytes_max".into(), source: String::new(), problem: problem() };
        (self.memory_bytes_max < least).then(error)
    }

    pub(super) fn collect_problems(&self, errors: &mut Vec<ConfigError>) {
        let mut complain = |field: &str, problem: String| {
            errors.push(ConfigError { field: field.to_owned(), source: String::new(), problem });
        };
        match self.listen.parse::<Listen>() {
            Err(problem) => complain("listen", problem),
            Ok(Listen::At(address)) if address.ip().is_some() => {}
            Ok(_) if self.reuse_port => {
                complain("reuse_port", format!("only a port can be shared; switch it off for `{}`", self.listen));
            }
            Ok(_) => {}
        }
        if self.heartbeat_answer_ms > 0 && self.heartbeat_every_ms == 0 {
            complain("heartbeat_answer_ms", "no heartbeat is asked for; set heartbeat_every_ms too".to_owned());
        }
        if let Err(error) = self.backend.parse::<Backend>() {
            complain("backend", error.to_string());
        }
        let sessions_max = SESSIONS_PER_SHARD_MAX * SHARDS_MAX as u32;
        let ranges = [
            ("workers", u64::from(self.workers), 0, SHARDS_MAX as u64),
            ("backlog", u64::from(self.backlog), 1, i32::MAX as u64),
            ("sessions_max", u64::from(self.sessions_max), 1, u64::from(sessions_max)),
            ("address_prefix_v6_bits", u64::from(self.address_prefix_v6_bits), 1, 128),
            ("memory_bytes_max", self.memory_bytes_max, MEMORY_BYTES_MIN, u64::MAX >> 1),
            ("outbox_bytes_max", u64::from(self.outbox_bytes_max), 1, 1 << 30),
            ("outbox_messages_max", u64::from(self.outbox_messages_max), 1, u64::from(u32::MAX)),
            ("watermark_high_bytes", u64::from(self.watermark_high_bytes), 0, u64::from(self.outbox_bytes_max)),
            ("watermark_low_bytes", u64::from(self.watermark_low_bytes), 0, u64::from(self.watermark_high_bytes)),
            ("timers_max", u64::from(self.timers_max), 0, u64::from(TIMERS_MAX)),
            ("mailbox_bytes_max", u64::from(self.mailbox_bytes_max), 1, u64::from(u32::MAX)),
            ("mailbox_commands_max", u64::from(self.mailbox_commands_max), 1, u64::from(u32::MAX)),
            ("receive_buffers", u64::from(self.receive_buffers), 1, 32_768),
            ("send_buffers", u64::from(self.send_buffers), 0, u64::from(self.receive_buffers.min(32_768))),
        ];
        for (field, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                complain(field, format!("{value} is out of range; choose from {least} to {most}"));
            }
        }
        // Of 0 workers it is known at the start only.
        if self.memory_bytes_max >= MEMORY_BYTES_MIN && self.workers <= SHARDS_MAX as u32 {
            errors.extend(self.memory_problem(u64::from(self.workers)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_flaw() {
        assert_eq!(ServerConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_kind_of_address_is_understood() {
        assert_eq!("inherit".parse(), Ok(Listen::Inherited));
        assert_eq!("[::1]:80".parse(), Ok(Listen::At(([0, 0, 0, 0, 0, 0, 0, 1], 80).into())));
        assert_eq!("unix:/run/raon".parse(), Ok(Listen::At(Address::Unix("/run/raon".into()))));
        assert_eq!("unix:@raon".parse(), Ok(Listen::At(Address::Abstract(b"raon".to_vec()))));
        assert!("localhost".parse::<Listen>().is_err());
    }

    #[test]
    fn each_bound_is_checked() {
        let changes: [fn(&mut ServerConfig); 13] = [
            |config| (config.listen, config.reuse_port) = ("unix:@raon".into(), true),
            |config| config.heartbeat_answer_ms = 5,
            |config| config.workers = 129,
            |config| config.sessions_max = 0,
            |config| config.address_prefix_v6_bits = 0,
            |config| config.address_prefix_v6_bits = 129,
            |config| config.memory_bytes_max = 1,
            |config| (config.workers, config.memory_bytes_max) = (64, 1 << 20),
            |config| config.outbox_bytes_max = 0,
            |config| config.watermark_high_bytes = 1 << 20,
            |config| config.watermark_low_bytes = 65_537,
            |config| config.receive_buffers = 0,
            |config| config.send_buffers = 1025,
        ];
        for (place, change) in changes.iter().enumerate() {
            let mut config = ServerConfig::default();
            change(&mut config);
            assert!(config.validate().is_err(), "change {place}");
        }
    }
}
