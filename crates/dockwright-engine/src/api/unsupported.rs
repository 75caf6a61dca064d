//! Endpoints of Docker that Dockwright does not have. They are named, so that a user learns what is missing instead of seeing a page
//! that does not exist.

use crate::{
    api::{
        Request, Response,
        router::{Route, route},
        stream,
    },
    error::{EngineError, ErrorKind, Result},
};

macro_rules! unsupported {
    ($($handler:ident: $name:literal => [$($method:ident $pattern:literal),+ $(,)?];)+) => {
        $(async fn $handler(_request: Request) -> Result<Response> {
            Err(EngineError::not_implemented($name))
        })+
        pub(super) const ROUTES: &[Route] = &[
            route!(GET "/plugins" => no_plugins),
            route!(GET "/plugins/privileges" => plugin),
            route!(GET "/plugins/{name*}/json" => no_plugin),
            route!(GET "/swarm" => no_swarm),
            route!(GET "/nodes" => no_swarm),
            route!(GET "/services" => no_swarm),
            route!(GET "/tasks" => no_swarm),
            route!(GET "/secrets" => no_swarm),
            route!(GET "/configs" => no_swarm),
            $($(route!($method $pattern => $handler),)+)+
        ];
    };
}

unsupported! {
    attach_websocket: "container attach by websocket" => [GET "/containers/{id}/attach/ws"];
    checkpoint: "container checkpoint" => [GET "/containers/{id}/checkpoints", POST "/containers/{id}/checkpoints", DELETE "/containers/{id}/checkpoints/{name}"];
    changes: "container diff" => [GET "/containers/{id}/changes"];
    export: "container export" => [GET "/containers/{id}/export"];
    commit: "container commit" => [POST "/commit"];
    search: "image search" => [GET "/images/search"];
    session: "build session" => [POST "/session"];
    grpc: "build control" => [POST "/grpc"];
    cluster_volume: "cluster volume update" => [PUT "/volumes/{name}"];
    plugin: "plugin" => [
        POST "/plugins/{name*}", DELETE "/plugins/{name*}",
    ];
    swarm: "swarm" => [
        POST "/swarm/{name*}", GET "/swarm/{name*}", GET "/nodes/{name*}", POST "/nodes/{name*}", DELETE "/nodes/{name*}",
        GET "/services/{name*}", POST "/services/{name*}", DELETE "/services/{name*}", GET "/tasks/{name*}",
        GET "/secrets/{name*}", POST "/secrets/{name*}", DELETE "/secrets/{name*}",
        GET "/configs/{name*}", POST "/configs/{name*}", DELETE "/configs/{name*}",
    ];
}

async fn no_plugins(_request: Request) -> Result<Response> {
    Ok(stream::ok(&serde_json::json!([])))
}

/// `docker inspect` asks for a plugin last, and takes only this for "there is no such thing".
async fn no_plugin(request: Request) -> Result<Response> {
    Err(EngineError::not_found(format!("plugin \"{}\" not found", request.param("name"))))
}

async fn no_swarm(_request: Request) -> Result<Response> {
    let message =
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";
    Err(EngineError::new(ErrorKind::Unavailable, message))
}
