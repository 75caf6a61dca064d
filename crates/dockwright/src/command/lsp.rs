//! `dockwright lsp`: the Language Server Protocol over standard input and output.
//!
//! Two threads of the library read and write; everything else happens here, one message after another. Changes that are queued are all
//! applied before problems are looked for, so that a fast typist is never behind.

mod analysis;
mod completion;
mod definition;
mod diagnostics;
mod document;
mod hover;
mod overlay;
mod server;
mod symbols;
mod workspace;

use std::{
    sync::mpsc::{self, Receiver},
    thread,
};

use lsp_server::{Connection, Message};

use crate::{
    cli::{LspArgs, ProjectArgs},
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    settings::{GlobalSettings, ProjectSettings},
};
use server::{Closed, Next, Server};

/// Most messages that wait; the editor is held up beyond.
const MAX_QUEUED: usize = 1024;

pub(super) fn run(arguments: &LspArgs, settings: &GlobalSettings) -> Result<ExitCode, CommandError> {
    let project = ProjectArgs { file: arguments.file.clone(), frozen: arguments.frozen, ..ProjectArgs::default() };
    let project = ProjectSettings::decide(&project, &settings.file.run)?;
    let (connection, threads) = Connection::stdio();
    let Connection { sender, receiver } = connection;
    let (queue, messages) = mpsc::sync_channel(MAX_QUEUED);
    let pump = thread::Builder::new().name("lsp-queue".to_owned()).spawn(move || {
        // Ends with the reader, or when nobody listens any more.
        while let Ok(message) = receiver.recv()
            && queue.send(message).is_ok()
        {}
    });
    pump.explain(ErrorKind::Environment, || "start a thread".to_owned())?;
    let mut server = Server::new(settings, project, Box::new(move |message| sender.send(message).map_err(|_| Closed)));
    let end = serve(&mut server, &messages);
    drop(server);
    match end {
        // The reader may wait for input for ever, and is left alone.
        End::NobodyReads => return Err(CommandError::environment("the editor does not read what it is told any more")),
        End::Exit(_) | End::InputEnded => threads.join().explain(ErrorKind::Usage, || "read what the editor says".to_owned())?,
    }
    match end {
        End::Exit(code) => Ok(code),
        _ => Err(CommandError::usage("the editor went away without saying so")
            .hint("`dockwright lsp` is started by editors: docs/guide/editors.md says how")),
    }
}

/// How a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Exit(ExitCode),
    InputEnded,
    NobodyReads,
}

fn serve(server: &mut Server<'_>, messages: &Receiver<Message>) -> End {
    loop {
        let message = match messages.try_recv() {
            Ok(message) => message,
            Err(_) => {
                if server.publish().is_err() {
                    return End::NobodyReads;
                }
                match messages.recv() {
                    Ok(message) => message,
                    Err(_) => return End::InputEnded,
                }
            }
        };
        match server.handle(message) {
            Next::Continue => {}
            Next::Exit(code) => return End::Exit(code),
            Next::Closed => return End::NobodyReads,
        }
    }
}
