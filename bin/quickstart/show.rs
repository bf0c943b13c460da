//! A few requests with the kubeconfig that the client proxy wrote, as kubectl would make them.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_connect::wire::kubeconfig::{Kubeconfig, Material, Token};
use serde_json::Value;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::processes::Result;

/// What a kubeconfig leads to.
pub struct Access {
    agent: Agent,
    server: String,
    token: String,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Access {
    pub fn read(kubeconfig: &Path) -> Result<Self> {
        let text = std::fs::read(kubeconfig).map_err(|err| err.to_string())?;
        let access = Kubeconfig::parse(&text)
            .and_then(|config| config.select(None))
            .map_err(|err| err.to_string())?;
        let Some(Material::Inline(pem)) = access.authority else {
            return Err("the kubeconfig has no CA".into());
        };
        let Some(Token::Inline(token)) = access.token else {
            return Err("the kubeconfig has no token".into());
        };
        let der = der(pem.expose())?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&[Certificate::from_der(&der).to_owned()]))
            .build();
        let agent =
            Agent::config_builder().tls_config(tls).http_status_as_error(false).build().new_agent();
        let url = access.server;
        let server = format!("https://{}{}", url.authority(), url.path);
        Ok(Self { agent, server, token: token.expose().clone() })
    }

    pub fn get(&self, path: &str) -> Result<Answer> {
        let request = self.agent.get(format!("{}{path}", self.server));
        let request = request.header("authorization", format!("Bearer {}", self.token));
        answer(request.call().map_err(|err| err.to_string())?)
    }

    pub fn post(&self, path: &str, body: &str) -> Result<Answer> {
        let request = self.agent.post(format!("{}{path}", self.server));
        let request = request
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        answer(request.send(body).map_err(|err| err.to_string())?)
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let text = response.body_mut().read_to_string().map_err(|err| err.to_string())?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answer { status: response.status().as_u16(), body })
}

fn der(pem: &[u8]) -> Result<Vec<u8>> {
    let text = String::from_utf8_lossy(pem);
    let inner: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(inner).map_err(|err| err.to_string())
}
