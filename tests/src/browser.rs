//! Drives a headless Chromium over its DevTools socket.
//!
//! What must hold: each window has its own profile, like the browser of another person. An exception that the page
//! does not catch fails the test.

use std::path::PathBuf;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{
    TIMEOUT, eventually,
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

/// A window with its own profile.
pub struct Window {
    page: DevTools,
}

/// A connection that speaks the DevTools protocol.
struct DevTools {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    calls: u64,
}

fn program() -> PathBuf {
    std::env::var_os("ROOMCAST_TEST_CHROMIUM").map_or_else(|| "chromium".into(), PathBuf::from)
}

impl Browser {
    /// Starts Chromium with an empty profile.
    ///
    /// # Panics
    /// When Chromium is not installed (Debian's package `chromium`) or does not start.
    pub async fn start() -> Self {
        let folder = Folder::new();
        let mut command = command(&program());
        // Chromium has no sandbox as root; the tests only open our own page.
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

    /// Opens a URL in a new window.
    ///
    /// # Panics
    /// When the browser does not answer, or refuses.
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
    /// Evaluates a JavaScript expression in the page and returns its value; a promise is awaited.
    pub async fn value(&mut self, expression: &str) -> Value {
        let call = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        self.page.call("Runtime.evaluate", call).await["result"]["value"].clone()
    }

    /// Navigates the window to a URL.
    pub async fn go(&mut self, url: &str) {
        // The call returns once the new page has replaced the old one.
        self.page.call("Page.navigate", json!({ "url": url })).await;
    }

    /// Waits until a JavaScript expression is true in the page; checked at each change of the DOM.
    ///
    /// # Panics
    /// When it is not true within half of [`TIMEOUT`].
    pub async fn until(&mut self, expression: &str) {
        let wait = format!(
            "new Promise((done) => {{
                const check = () => {{ if ({expression}) done(true); }};
                const all = {{ subtree: true, childList: true, attributes: true, characterData: true }};
                new MutationObserver(check).observe(document, all);
                setTimeout(() => done(false), {});
                check();
            }})",
            TIMEOUT.as_millis() / 2
        );
        if self.value(&wait).await != true {
            panic!("never true: {expression}\n{}", self.value("document.body.innerText").await);
        }
    }

    /// Clicks on the element of a CSS selector, once it is visible.
    pub async fn click(&mut self, selector: &str) {
        let found = format!("document.querySelector({})", json!(selector));
        self.until(&format!("!!{found}?.checkVisibility()")).await;
        self.value(&format!("{found}.click()")).await;
    }

    /// Enters text into the field of a CSS selector, as typed input, and submits its form.
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
            let message = tokio::time::timeout(TIMEOUT, self.stream.next()).await;
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
