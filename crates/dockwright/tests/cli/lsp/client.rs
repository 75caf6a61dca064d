//! An editor, as far as the protocol goes.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use url::Url;

use crate::common::{Printed, Project};

/// A server that is silent for this long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Client {
    child: Option<Child>,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    /// Messages about problems that nobody asked for yet.
    told: Vec<Value>,
    root: PathBuf,
    next_id: i64,
}

impl Client {
    /// Starts a server that was not spoken to.
    pub(super) fn start(project: &Project) -> Self {
        let mut command = project.dockwright(&["lsp", "--stdio"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("dockwright starts");
        let output = child.stdout.take().expect("it is piped");
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || read(output, &sender));
        let root = project.repository().canonicalize().expect("the repository exists");
        Self { input: child.stdin.take(), child: Some(child), messages, told: Vec::new(), root, next_id: 0 }
    }

    /// Starts a server and greets it.
    pub(super) fn open(project: &Project) -> Self {
        let mut client = Self::start(project);
        client.request("initialize", json!({"capabilities": {}, "processId": null, "rootUri": null}));
        client.notify("initialized", json!({}));
        client
    }

    pub(super) fn uri(&self, file: &str) -> String {
        Url::from_file_path(self.root.join(file)).expect("an absolute path").to_string()
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("it is open");
        input.write_all(bytes).and_then(|()| input.flush()).expect("the server reads");
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        self.raw(format!("Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes());
    }

    pub(super) fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    fn answer(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params}));
        loop {
            let message = self.receive();
            if message["id"] == self.next_id {
                return message;
            }
            self.told.push(message);
        }
    }

    /// Asks, and returns the result.
    #[track_caller]
    pub(super) fn request(&mut self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Asks, and returns the code of the error.
    #[track_caller]
    pub(super) fn error(&mut self, method: &str, params: Value) -> i64 {
        let answer = self.answer(method, params);
        answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{method}: {answer}"))
    }

    /// Asks about a place.
    #[track_caller]
    pub(super) fn at(&mut self, method: &str, file: &str, (line, character): (usize, usize)) -> Value {
        let uri = self.uri(file);
        self.request(method, json!({"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}))
    }

    pub(super) fn open_file(&mut self, file: &str, text: &str) {
        let document = json!({"uri": self.uri(file), "languageId": "yaml", "version": 1, "text": text});
        self.notify("textDocument/didOpen", json!({"textDocument": document}));
    }

    /// Replaces the whole text.
    pub(super) fn change(&mut self, file: &str, text: &str) {
        self.changes(file, json!({"text": text}));
    }

    /// Replaces a range.
    pub(super) fn edit(&mut self, file: &str, start: (usize, usize), end: (usize, usize), text: &str) {
        let place = |(line, character): (usize, usize)| json!({"line": line, "character": character});
        self.changes(file, json!({"range": {"start": place(start), "end": place(end)}, "text": text}));
    }

    fn changes(&mut self, file: &str, change: Value) {
        let document = json!({"uri": self.uri(file), "version": 2});
        self.notify("textDocument/didChange", json!({"textDocument": document, "contentChanges": [change]}));
    }

    /// Returns the next problems that are told of a file.
    pub(super) fn diagnostics(&mut self, file: &str) -> Vec<Value> {
        self.diagnostics_of(&self.uri(file))
    }

    pub(super) fn diagnostics_of(&mut self, uri: &str) -> Vec<Value> {
        loop {
            let is_it = |message: &Value| message["params"]["uri"] == uri && message["method"] == "textDocument/publishDiagnostics";
            if let Some(at) = self.told.iter().position(is_it) {
                return self.told.remove(at)["params"]["diagnostics"].as_array().cloned().unwrap_or_default();
            }
            let message = self.receive();
            self.told.push(message);
        }
    }

    /// Waits until what is told of a file is as wanted.
    pub(super) fn diagnostics_until(&mut self, file: &str, wanted: impl Fn(&[Value]) -> bool) {
        while !wanted(&self.diagnostics(file)) {}
    }

    fn receive(&self) -> Value {
        self.messages.recv_timeout(PATIENCE).expect("the server says something")
    }

    /// Closes the server's input.
    pub(super) fn close(&mut self) {
        self.input = None;
    }

    /// Returns how the server ended.
    pub(super) fn end(&mut self) -> Printed {
        Printed::of(self.child.take().expect("it runs").wait_with_output().expect("it ends"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads messages until the server ends.
fn read(output: ChildStdout, messages: &mpsc::Sender<Value>) {
    let mut output = BufReader::new(output);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if output.read_line(&mut line).is_ok_and(|count| count == 0) {
                return;
            }
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", digits)) => length = digits.parse().expect("a length"),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        output.read_exact(&mut body).expect("a whole message");
        if messages.send(serde_json::from_slice(&body).expect("a message is JSON")).is_err() {
            return;
        }
    }
}

/// Returns what a completion offers.
pub(super) fn labels(items: &Value) -> Vec<String> {
    items.as_array().into_iter().flatten().filter_map(|item| item["label"].as_str().map(str::to_owned)).collect()
}

/// Returns a text without its `│`, and the line and column where that was.
pub(super) fn cursor(text: &str) -> (String, (usize, usize)) {
    let at = text.find('│').expect("the text has a cursor");
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    (text.replace('│', ""), (text[..at].matches('\n').count(), text[line_start..at].encode_utf16().count()))
}

/// Returns the line and column of the `│` of a part of a text.
pub(super) fn find(text: &str, part: &str) -> (usize, usize) {
    let plain = part.replace('│', "");
    assert!(text.contains(&plain), "{plain} is not in the text");
    cursor(&text.replacen(&plain, part, 1)).1
}
