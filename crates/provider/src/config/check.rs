//! Bounds of the values, each alone and with others: checked when a driver is opened, and when a socket is made.

use super::Config;
use crate::base::error::Error;
use crate::base::range::{holds, in_range};
use crate::base::setting::Setting;
use crate::base::slots::CAPACITY_MAX;

impl Config {
    /// Checks all values. Errors: `InvalidInput` with the first setting that is out of range.
    //= LIMIT-1
    pub(crate) fn check(&self) -> Result<(), Error> {
        in_range(Setting::SocketsMax, self.sockets_max)?;
        in_range(Setting::OperationsMax, self.operations_max)?;
        let together = u64::from(self.sockets_max) + u64::from(self.operations_max);
        holds(Setting::OperationsMax, together <= CAPACITY_MAX as u64)?;
        in_range(Setting::SendQueueBytesMax, self.send_queue_bytes_max)?;
        in_range(Setting::SendQueueCountMax, self.send_queue_count_max)?;
        in_range(Setting::MailboxCapacity, self.mailbox_capacity)?;
        in_range(Setting::TurnBytesMax, self.turn_bytes_max)?;
        self.pool.check()?;
        self.iocp.check()?;
        self.rio.check()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::error::ErrorKind;

    #[test]
    fn each_setting_is_checked_at_its_bounds() {
        type Field = fn(&mut Config) -> &mut u32;
        let fields: [(Setting, Field); 14] = [
            (Setting::SocketsMax, |config| &mut config.sockets_max),
            (Setting::SendQueueBytesMax, |config| &mut config.send_queue_bytes_max),
            (Setting::SendQueueCountMax, |config| &mut config.send_queue_count_max),
            (Setting::MailboxCapacity, |config| &mut config.mailbox_capacity),
            (Setting::TurnBytesMax, |config| &mut config.turn_bytes_max),
            (Setting::BufferBytes, |config| &mut config.pool.buffer_bytes),
            (Setting::ReceiveCount, |config| &mut config.pool.receive_count),
            (Setting::BulkBytes, |config| &mut config.pool.bulk_bytes),
            (Setting::BulkCount, |config| &mut config.pool.bulk_count),
            (Setting::AcceptsAhead, |config| &mut config.iocp.accepts_ahead),
            (Setting::RioReceiveBytes, |config| &mut config.rio.receive_bytes),
            (Setting::RioSendsAhead, |config| &mut config.rio.sends_ahead),
            (Setting::RioDatagramsAhead, |config| &mut config.rio.datagrams_ahead),
            (Setting::RioCompletionsMax, |config| &mut config.rio.completions_max),
        ];
        for (setting, field) in fields {
            let (least, most) = setting.range();
            for value in [0, least.saturating_sub(1), least, most, most + 1, u64::from(u32::MAX)] {
                let Ok(number) = u32::try_from(value) else { continue };
                let mut config = Config { operations_max: 1, ..Config::default() };
                config.pool.send_count = 1;
                *field(&mut config) = number;
                let expected = if (least..=most).contains(&value) { None } else { Some(setting) };
                let found = config.check().err();
                assert_eq!(found.and_then(|error| error.setting()), expected, "{setting:?} = {value}");
                assert!(found.is_none_or(|error| error.kind() == ErrorKind::InvalidInput));
            }
        }
    }

    #[test]
    fn what_is_asked_of_several_is_checked() {
        type Change = fn(&mut Config);
        let changes: [(Setting, Change); 5] = [
            (Setting::OperationsMax, |config| (config.sockets_max, config.operations_max) = (1 << 19, (1 << 19) + 1)),
            (Setting::SendCount, |config| config.pool.send_count = 1025),
            (Setting::BufferBytes, |config| config.pool.buffer_bytes = 4097),
            (Setting::BulkBytes, |config| config.pool.bulk_bytes = 65_537),
            (Setting::RioPoll, |config| config.rio.poll = Duration::MAX),
        ];
        for (setting, change) in changes {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.check().err().and_then(|error| error.setting()), Some(setting));
        }
    }
}
