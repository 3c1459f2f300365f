//! `cargo run -p raon --example echo`: whatever a client sends comes back.

use raon::{Raw, Server, ServerError};

fn main() -> Result<(), ServerError> {
    Server::builder().listen("127.0.0.1:9000").framing(Raw).on_message(|ctx, message| ctx.reply(message)).run()
}
