//! Serves WebSockets that echo each message, for `tests/autobahn/run`.

use service::{lifecycle::Shutdown, serve};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the script that starts it reads the port from stdout")]
async fn main() -> anyhow::Result<()> {
    let listener = serve::bind("127.0.0.1:0".parse()?).await?;
    println!("{}", listener.local_addr()?.port());
    fanout::echo::serve(listener, Shutdown::default()).await
}
