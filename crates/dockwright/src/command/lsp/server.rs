//! What the editor says, and what is answered.
//!
//! ```text
//! start ── initialize ──► running ── shutdown ──► shut down ── exit ──► ends with 0
//!   └──────────────────────── exit without shutdown ──────────────────► ends with 1
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    rc::Rc,
};

use lsp_server::{ErrorCode, Message, Notification, Request, RequestId, Response};
use lsp_types::{
    CompletionOptions, CompletionParams, CompletionResponse, DidChangeTextDocumentParams, DidCloseTextDocumentParams,
    DidOpenTextDocumentParams, DidSaveTextDocumentParams, DocumentSymbolParams, DocumentSymbolResponse, GotoDefinitionParams,
    GotoDefinitionResponse, Hover, HoverParams, HoverProviderCapability, InitializeResult, OneOf, PositionEncodingKind,
    PublishDiagnosticsParams, SaveOptions, ServerCapabilities, ServerInfo, TextDocumentPositionParams, TextDocumentSyncCapability,
    TextDocumentSyncKind, TextDocumentSyncOptions, Uri,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    analysis::Analysis,
    completion, definition, diagnostics,
    document::{self, Document},
    hover, symbols,
    workspace::{self, Workspace},
};
use crate::{
    exit_code::ExitCode,
    settings::{GlobalSettings, ProjectSettings},
};

/// What happens after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Exit(ExitCode),
    /// Nobody reads answers any more.
    Closed,
}

/// Nobody reads answers any more.
pub(super) struct Closed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Running,
    ShutDown,
}

/// The state of a conversation.
pub(super) struct Server<'a> {
    global: &'a GlobalSettings,
    settings: ProjectSettings,
    sender: Sender,
    phase: Phase,
    /// Open texts by their address.
    documents: BTreeMap<String, Document>,
    workspaces: HashMap<PathBuf, Workspace>,
    /// What is known by root and file; forgotten with every change.
    analyses: HashMap<(PathBuf, String), Rc<Analysis>>,
    /// Files that the editor shows problems of.
    published: BTreeSet<PathBuf>,
    /// Something changed since problems were looked for.
    is_changed: bool,
}

/// An open text, where the cursor is in it, and what is known of its configuration.
pub(super) struct Place<'a> {
    pub(super) document: &'a Document,
    /// In bytes.
    pub(super) offset: usize,
    pub(super) analysis: Rc<Analysis>,
}

impl<'a> Server<'a> {
    pub(super) fn new(global: &'a GlobalSettings, settings: ProjectSettings, sender: Sender) -> Self {
        Self {
            global,
            settings,
            sender,
            phase: Phase::Start,
            documents: BTreeMap::new(),
            workspaces: HashMap::new(),
            analyses: HashMap::new(),
            published: BTreeSet::new(),
            is_changed: false,
        }
    }

    pub(super) fn handle(&mut self, message: Message) -> Next {
        match message {
            Message::Request(request) => {
                let response = self.answer(request);
                if (self.sender)(response.into()).is_ok() { Next::Continue } else { Next::Closed }
            }
            Message::Notification(notification) if notification.method == "exit" => {
                Next::Exit(if self.phase == Phase::ShutDown { ExitCode::Success } else { ExitCode::JobFailed })
            }
            Message::Notification(notification) => {
                if self.phase == Phase::Running {
                    self.notice(notification);
                }
                Next::Continue
            }
            // Nothing is asked of the editor.
            Message::Response(_) => Next::Continue,
        }
    }

    fn answer(&mut self, request: Request) -> Response {
        let Request { id, method, params } = request;
        let refuse = |id, code: ErrorCode, message: &str| Response::new_err(id, code as i32, message.to_owned());
        match (self.phase, method.as_str()) {
            (Phase::Start, "initialize") => {
                self.phase = Phase::Running;
                Response::new_ok(id, capabilities())
            }
            (Phase::Start, _) => refuse(id, ErrorCode::ServerNotInitialized, "the first request must be `initialize`"),
            (Phase::ShutDown, _) => refuse(id, ErrorCode::InvalidRequest, "the server is shut down; only `exit` may follow"),
            (Phase::Running, "initialize") => refuse(id, ErrorCode::InvalidRequest, "the server is initialized already"),
            (Phase::Running, "shutdown") => {
                self.phase = Phase::ShutDown;
                Response::new_ok(id, ())
            }
            (Phase::Running, "textDocument/completion") => respond(id, params, |params: CompletionParams| self.complete(&params)),
            (Phase::Running, "textDocument/hover") => respond(id, params, |params: HoverParams| self.hover(&params)),
            (Phase::Running, "textDocument/definition") => respond(id, params, |params: GotoDefinitionParams| self.define(&params)),
            (Phase::Running, "textDocument/documentSymbol") => respond(id, params, |params: DocumentSymbolParams| self.symbols(&params)),
            (Phase::Running, _) => refuse(id, ErrorCode::MethodNotFound, &format!("`{method}` is not offered")),
        }
    }

    fn notice(&mut self, notification: Notification) {
        let Notification { method, params } = notification;
        match method.as_str() {
            "textDocument/didOpen" => self.with(&method, params, |server, params: DidOpenTextDocumentParams| {
                let document = Document::new(params.text_document.uri, params.text_document.text);
                server.forget_workspace(&document.uri);
                server.documents.insert(document.uri.as_str().to_owned(), document);
            }),
            "textDocument/didChange" => self.with(&method, params, |server, params: DidChangeTextDocumentParams| {
                if let Some(document) = server.documents.get_mut(params.text_document.uri.as_str()) {
                    params.content_changes.into_iter().for_each(|change| document.apply(change));
                }
            }),
            "textDocument/didSave" => {
                self.with(&method, params, |server, params: DidSaveTextDocumentParams| server.forget_workspace(&params.text_document.uri));
            }
            "textDocument/didClose" => self.with(&method, params, |server, params: DidCloseTextDocumentParams| {
                server.forget_workspace(&params.text_document.uri);
                server.documents.remove(params.text_document.uri.as_str());
            }),
            "workspace/didChangeWatchedFiles" => self.with(&method, params, |server, _: serde_json::Value| server.workspaces.clear()),
            // Others are allowed to be unknown.
            _ => {}
        }
    }

    /// Applies a notification after which everything is to be looked at anew.
    fn with<P: DeserializeOwned>(&mut self, method: &str, params: serde_json::Value, apply: impl FnOnce(&mut Self, P)) {
        match serde_json::from_value(params) {
            Ok(params) => {
                apply(self, params);
                self.analyses.clear();
                self.is_changed = true;
            }
            // A notification has no answer.
            Err(error) => tracing::warn!(method, %error, "a notification cannot be understood"),
        }
    }

    /// Files of the repository may be others now.
    fn forget_workspace(&mut self, uri: &Uri) {
        if let Some(root) = document::path_of(uri).as_deref().and_then(workspace::root_of) {
            self.workspaces.remove(&root);
        }
    }

    /// Tells the editor what is wrong, if something changed since it was told.
    pub(super) fn publish(&mut self) -> Result<(), Closed> {
        if !std::mem::take(&mut self.is_changed) {
            return Ok(());
        }
        let paths: Vec<PathBuf> = self.documents.values().filter_map(|document| document.path.clone()).collect();
        let mut found = BTreeMap::new();
        for path in paths {
            found.entry(path.clone()).or_insert_with(Vec::new);
            if let Some(analysis) = self.analysis(&path) {
                diagnostics::add(&analysis, &mut found);
            }
        }
        for path in std::mem::take(&mut self.published) {
            found.entry(path).or_default();
        }
        for (path, diagnostics) in found {
            let Some(uri) = self.uri_of(&path) else { continue };
            if !diagnostics.is_empty() {
                self.published.insert(path);
            }
            let params = PublishDiagnosticsParams { uri, diagnostics, version: None };
            let message = Notification::new("textDocument/publishDiagnostics".to_owned(), params);
            (self.sender)(message.into())?;
        }
        Ok(())
    }

    /// Returns the address of a file as the editor writes it.
    fn uri_of(&self, path: &Path) -> Option<Uri> {
        let open = self.documents.values().find(|document| document.path.as_deref() == Some(path));
        open.map(|document| document.uri.clone()).or_else(|| document::uri_of(path))
    }

    /// Returns what is known of the configuration that a file belongs to; a file that no other includes is its own.
    fn analysis(&mut self, path: &Path) -> Option<Rc<Analysis>> {
        let root = workspace::root_of(path)?;
        let file = path.strip_prefix(&root).ok()?.to_str()?.to_owned();
        let main = self.settings.file.to_string_lossy().into_owned();
        let whole = self.analysed(&root, &main, false);
        Some(if whole.has(&file) { whole } else { self.analysed(&root, &file, true) })
    }

    fn analysed(&mut self, root: &Path, file: &str, is_part: bool) -> Rc<Analysis> {
        let key = (root.to_owned(), file.to_owned());
        if let Some(known) = self.analyses.get(&key) {
            return known.clone();
        }
        let workspace = self.workspaces.entry(root.to_owned()).or_insert_with(|| Workspace::open(root, &self.settings));
        let open = self.documents.values().filter_map(|document| {
            let path = document.path.as_deref()?.strip_prefix(root).ok()?;
            Some((path.to_str()?.to_owned(), document.text.clone()))
        });
        let analysis = workspace.analyse(file, &open.collect(), &self.settings, self.global);
        let analysis = Rc::new(if is_part { analysis.into_part() } else { analysis });
        self.analyses.insert(key, analysis.clone());
        analysis
    }

    fn place(&mut self, at: &TextDocumentPositionParams) -> Option<Place<'_>> {
        let path = self.documents.get(at.text_document.uri.as_str())?.path.clone()?;
        let analysis = self.analysis(&path)?;
        let document = self.documents.get(at.text_document.uri.as_str())?;
        Some(Place { document, offset: document::offset(&document.text, at.position), analysis })
    }

    fn complete(&mut self, params: &CompletionParams) -> Option<CompletionResponse> {
        let place = self.place(&params.text_document_position)?;
        Some(CompletionResponse::Array(completion::complete(&place)))
    }

    fn hover(&mut self, params: &HoverParams) -> Option<Hover> {
        hover::hover(&self.place(&params.text_document_position_params)?)
    }

    fn define(&mut self, params: &GotoDefinitionParams) -> Option<GotoDefinitionResponse> {
        let place = self.place(&params.text_document_position_params)?;
        definition::define(&place).map(GotoDefinitionResponse::Scalar)
    }

    fn symbols(&mut self, params: &DocumentSymbolParams) -> Option<DocumentSymbolResponse> {
        let document = self.documents.get(params.text_document.uri.as_str())?;
        Some(DocumentSymbolResponse::Nested(symbols::symbols(&document.text)))
    }
}

/// Where messages to the editor go.
pub(super) type Sender = Box<dyn Fn(Message) -> Result<(), Closed>>;

fn respond<P: DeserializeOwned, R: Serialize>(id: RequestId, params: serde_json::Value, answer: impl FnOnce(P) -> R) -> Response {
    match serde_json::from_value(params) {
        Ok(params) => Response::new_ok(id, answer(params)),
        Err(error) => Response::new_err(id, ErrorCode::InvalidParams as i32, error.to_string()),
    }
}

fn capabilities() -> InitializeResult {
    let sync = TextDocumentSyncOptions {
        open_close: Some(true),
        change: Some(TextDocumentSyncKind::INCREMENTAL),
        save: Some(SaveOptions { include_text: Some(false) }.into()),
        ..TextDocumentSyncOptions::default()
    };
    let completion =
        CompletionOptions { trigger_characters: Some([" ", "$", "{", "[", "-"].map(str::to_owned).into()), ..CompletionOptions::default() };
    InitializeResult {
        capabilities: ServerCapabilities {
            position_encoding: Some(PositionEncodingKind::UTF16),
            text_document_sync: Some(TextDocumentSyncCapability::Options(sync)),
            completion_provider: Some(completion),
            hover_provider: Some(HoverProviderCapability::Simple(true)),
            definition_provider: Some(OneOf::Left(true)),
            document_symbol_provider: Some(OneOf::Left(true)),
            ..ServerCapabilities::default()
        },
        server_info: Some(ServerInfo { name: "dockwright".to_owned(), version: Some(env!("CARGO_PKG_VERSION").to_owned()) }),
    }
}
