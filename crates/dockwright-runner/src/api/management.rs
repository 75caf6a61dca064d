//! Registering, checking and removing runners, and their tokens.

use dockwright_job::{RegisteredRunner, Registration, RunnerCredentials, RunnerDetails, RunnerToken};
use http::{Method, StatusCode};

use super::{
    ApiError, Client,
    request::{Body, Call, Token},
};

impl Client {
    /// Exchanges a registration token for a runner (`POST /runners`). A refusal with 403 means that the token is wrong.
    pub async fn register(&self, registration: &Registration) -> Result<RegisteredRunner, ApiError> {
        let token = Token::Runner(registration.token.expose());
        let call = Call::new(Method::POST, "runners", token, Body::json(registration));
        self.send_for_json(&call, StatusCode::CREATED).await
    }

    /// Asks whether a runner's token is valid (`POST /runners/verify`). Only a refusal with 403 says that it is not; other errors say
    /// nothing. Servers that answer without JSON give a runner with the number 0.
    pub async fn verify(&self, token: &RunnerToken, system_id: &str, details: &RunnerDetails) -> Result<RegisteredRunner, ApiError> {
        let body = RunnerCredentials { token: token.clone(), system_id: Some(system_id.to_owned()), info: Some(details.clone()) };
        let call = Call::new(Method::POST, "runners/verify", Token::Runner(token.expose()), Body::json(&body));
        match self.send_for_json(&call, StatusCode::OK).await {
            Err(ApiError::Protocol { .. }) => Ok(RegisteredRunner { token: token.clone(), ..RegisteredRunner::default() }),
            answer => answer,
        }
    }

    /// Removes a runner that came from a registration (`DELETE /runners`).
    pub async fn unregister(&self, token: &RunnerToken) -> Result<(), ApiError> {
        let body = RunnerCredentials { token: token.clone(), ..RunnerCredentials::default() };
        self.delete("runners", token, &body).await
    }

    /// Removes this machine from a runner that was created at the server (`DELETE /runners/managers`).
    pub async fn unregister_manager(&self, token: &RunnerToken, system_id: &str) -> Result<(), ApiError> {
        let body = RunnerCredentials { token: token.clone(), system_id: Some(system_id.to_owned()), info: None };
        self.delete("runners/managers", token, &body).await
    }

    async fn delete(&self, path: &str, token: &RunnerToken, body: &RunnerCredentials) -> Result<(), ApiError> {
        let call = Call::new(Method::DELETE, path, Token::Runner(token.expose()), Body::json(body));
        let answer = self.send(&call).await?;
        match answer.status() {
            StatusCode::NO_CONTENT => Ok(()),
            _ => Err(answer.refusal(call.token).await),
        }
    }

    /// Replaces a runner's token, proven by the present one.
    pub async fn reset_token(&self, token: &RunnerToken) -> Result<RegisteredRunner, ApiError> {
        let body = RunnerCredentials { token: token.clone(), ..RunnerCredentials::default() };
        let call = Call::new(Method::POST, "runners/reset_authentication_token", Token::Runner(token.expose()), Body::json(&body));
        self.send_for_json(&call, StatusCode::CREATED).await
    }

    /// Replaces the token of any runner, proven by a personal access token.
    pub async fn reset_token_of(&self, runner: u64, personal_access_token: &str) -> Result<RegisteredRunner, ApiError> {
        let path = format!("runners/{runner}/reset_authentication_token");
        let call = Call::new(Method::POST, path, Token::Private(personal_access_token), Body::json(&serde_json::json!({})));
        self.send_for_json(&call, StatusCode::CREATED).await
    }
}
