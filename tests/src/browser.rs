//! A real browser without a screen, driven over its DevTools socket.
//!
//! What must hold: each window is a profile of its own, as another person's browser would be, and
//! an error that the page does not catch fails the test.

use std::path::PathBuf;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{
    PATIENCE, eventually,
    folder::Folder,
    process::{Process, command},
};

/// A running Chromium.
pub struct Browser {
    _process: Process,
    _folder: Folder,
    port: String,
    control: DevTools,
}

/// One window.
pub struct Window {
    page: DevTools,
}

/// A socket of the DevTools protocol.
struct DevTools {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    calls: u64,
}

fn program() -> PathBuf {
    std::env::var_os("ROOMCAST_TEST_CHROMIUM").map_or_else(|| "chromium".into(), PathBuf::from)
}

impl Browser {
    /// Starts one with an empty profile.
    ///
    /// # Panics
    /// When there is none: it is Debian's package `chromium`.
    pub async fn start() -> Self {
        let folder = Folder::new();
        let mut command = command(&program());
        // Only our own page is shown, and root may have no sandbox.
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--remote-debugging-port=0", "--window-size=900,600"]);
        command.arg(format!("--user-data-dir={}", folder.path().display())).arg("about:blank");
        let mut process = Process::start("chromium", folder.path(), &mut command);
        let file = folder.path().join("DevToolsActivePort");
        let place = eventually("chromium (Debian's package of that name) tells its port", || {
            assert!(process.ended().is_none(), "chromium ended:\n{}", process.tail());
            let text = std::fs::read_to_string(&file).ok();
            std::future::ready(text.and_then(|text| {
                let (port, path) = text.split_once('\n')?;
                Some((port.to_owned(), path.trim_end().to_owned())).filter(|(_, path)| !path.is_empty())
            }))
        });
        let (port, path) = place.await;
        let control = DevTools::connect(&port, &path).await;
        Self { _process: process, _folder: folder, port, control }
    }

    /// Opens an address in a window of its own.
    ///
    /// # Panics
    /// When the browser does not.
    pub async fn open(&mut self, url: &str) -> Window {
        let profile = self.control.call("Target.createBrowserContext", json!({})).await;
        let target = json!({ "url": "about:blank", "browserContextId": profile["browserContextId"] });
        let target = self.control.call("Target.createTarget", target).await;
        let id = target["targetId"].as_str().expect("a window has an id");
        let mut page = DevTools::connect(&self.port, &format!("/devtools/page/{id}")).await;
        page.call("Runtime.enable", json!({})).await;
        let mut window = Window { page };
        window.go(url).await;
        window
    }
}

impl Window {
    /// What an expression is in the page.
    pub async fn value(&mut self, expression: &str) -> Value {
        let call = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        self.page.call("Runtime.evaluate", call).await["result"]["value"].clone()
    }

    /// Goes to an address in the same window.
    pub async fn go(&mut self, url: &str) {
        // It answers once the new page has taken the place of the old one.
        self.page.call("Page.navigate", json!({ "url": url })).await;
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Panics
    /// When it is not in time.
    pub async fn until(&mut self, expression: &str) {
        let wait = format!(
            "new Promise((done) => {{
                const check = () => {{ if ({expression}) done(true); }};
                const all = {{ subtree: true, childList: true, attributes: true, characterData: true }};
                new MutationObserver(check).observe(document, all);
                setTimeout(() => done(false), {});
                check();
            }})",
            PATIENCE.as_millis() / 2
        );
        if self.value(&wait).await != true {
            panic!("never true: {expression}\n{}", self.value("document.body.innerText").await);
        }
    }

    /// Clicks on what a selector finds, once it is there.
    pub async fn click(&mut self, selector: &str) {
        let found = format!("document.querySelector({})", json!(selector));
        self.until(&format!("!!{found}?.checkVisibility()")).await;
        self.value(&format!("{found}.click()")).await;
    }

    /// Writes into a field as a person does, and sends its form.
    pub async fn submit(&mut self, selector: &str, text: &str) {
        let field = format!("document.querySelector({})", json!(selector));
        self.until(&format!("!!{field}?.checkVisibility()")).await;
        self.value(&format!("{field}.focus()")).await;
        self.page.call("Input.insertText", json!({ "text": text })).await;
        self.value(&format!("{field}.form.requestSubmit()")).await;
    }
}

impl DevTools {
    async fn connect(port: &str, path: &str) -> Self {
        let (stream, _) = connect_async(format!("ws://127.0.0.1:{port}{path}")).await.expect("DevTools");
        Self { stream, calls: 0 }
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let call = json!({ "id": id, "method": method, "params": params }).to_string();
        self.stream.send(Message::text(call)).await.expect("the browser listens");
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next()).await;
            let message = message.expect("the browser answers").expect("the browser lives").expect("a frame");
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            assert_ne!(frame["method"], "Runtime.exceptionThrown", "the page fails: {frame}");
            if frame["id"] == id {
                assert!(
                    frame["error"].is_null() && frame["result"]["exceptionDetails"].is_null(),
                    "{method}: {frame}"
                );
                return frame["result"].clone();
            }
        }
    }
}
