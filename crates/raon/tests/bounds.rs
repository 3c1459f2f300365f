//! Every field of the configuration at the ends of its type, and several at once: a server starts and ends, or an error names
//! the field.

use std::time::Duration;

use raon::{Raw, Server, ServerConfig, Simulation};

const NUMBERS: [&str; 27] = [
    "workers",
    "backlog",
    "sessions_max",
    "sessions_per_address_max",
    "memory_bytes_max",
    "outbox_bytes_max",
    "outbox_messages_max",
    "watermark_high_bytes",
    "watermark_low_bytes",
    "slow_consumer_grace_ms",
    "handshake_timeout_ms",
    "idle_timeout_ms",
    "heartbeat_every_ms",
    "heartbeat_answer_ms",
    "messages_per_second_max",
    "messages_burst",
    "bytes_per_second_max",
    "bytes_burst",
    "tick_ms",
    "timers_max",
    "mailbox_bytes_max",
    "mailbox_commands_max",
    "close_timeout_ms",
    "receive_buffers",
    "send_buffers",
    // Twice, so that they are among the combinations more often.
    "close_timeout_ms",
    "idle_timeout_ms",
];
const VALUES: [i64; 8] = [0, 1, 2, 1 << 20, u32::MAX as i64 - 1, u32::MAX as i64, i64::MAX - 1, i64::MAX];

/// splitmix64.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 27)) as usize >> 8
}

/// Starts a server with these lines, lets somebody talk to it, and ends it.
fn try_out(lines: &[(&str, i64)]) {
    let text = lines.iter().map(|(name, value)| format!("{name} = {value}\n")).collect::<String>();
    let config = match ServerConfig::from_toml(&text) {
        Ok(config) => config,
        Err(errors) => return assert!(errors.iter().all(|error| !error.field.is_empty()), "{text}{errors}"),
    };
    let mut simulation = Simulation::new(1);
    let server = Server::builder().config(config).framing(Raw).on_message(|ctx, message| ctx.reply(message)).build();
    let handle = match simulation.serve(server) {
        Ok(handle) => handle,
        Err(error) => {
            let text_of_error = error.to_string();
            return assert!(text_of_error.contains("[set by ") || text_of_error.contains("asks for"), "{text}{error}");
        }
    };
    let mut client = simulation.connect();
    simulation.run_for(Duration::from_millis(20));
    let _ = client.write(b"raon");
    simulation.run_for(Duration::from_millis(20));
    // Whoever is over a limit is closed, and there is nothing to end.
    let _ = client.shut_write();
    handle.stop(Duration::MAX);
    let ended = simulation.run_to_end(Duration::from_secs(60));
    assert!(matches!(ended, Ok(true)), "{text}: {ended:?}");
}

//= LIMIT-1, TIME-1
#[test]
fn every_value_works_or_is_refused_by_name() {
    for name in NUMBERS {
        VALUES.into_iter().for_each(|value| try_out(&[(name, value)]));
    }
}

//= LIMIT-1, TIME-1
#[test]
fn any_combination_works_or_is_refused_by_name() {
    let mut state = 14;
    for _ in 0..300 {
        let count = 1 + random(&mut state) % 5;
        let mut lines: Vec<(&str, i64)> = Vec::new();
        for _ in 0..count {
            let name = NUMBERS[random(&mut state) % NUMBERS.len()];
            if lines.iter().all(|(other, _)| *other != name) {
                lines.push((name, VALUES[random(&mut state) % VALUES.len()]));
            }
        }
        try_out(&lines);
    }
}
