//! Serves the sockets that `tests/autobahn/run` tests: each message is sent back.

use service::{lifecycle::Shutdown, serve};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "who starts it reads the port there")]
async fn main() -> anyhow::Result<()> {
    let listener = serve::bind("127.0.0.1:0".parse()?).await?;
    println!("{}", listener.local_addr()?.port());
    fanout::echo::serve(listener, Shutdown::default()).await
}
