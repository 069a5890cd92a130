//! The production [`Transport`]: HTTP with several endpoints.
//!
//! # Guarantees
//!
//! - A request that was not sent goes to the next endpoint at once; one that may have been executed never does.
//! - Answers are bounded in size.
//! - No redirects are followed, and neither proxies of the environment nor certificates of the system are used. A plain
//!   `http://` endpoint costs no TLS setup.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::not_api;
use crate::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use ::http::header::{ACCEPT, ACCEPT_ENCODING};
use ::http::{HeaderMap, HeaderValue};
use atoll_model::{certificate, clock};
use atoll_node::endpoints::EndpointOrder;
use atoll_node::files::{CERTIFICATES, read};
use bytes::{Bytes, BytesMut};

/// The largest answer that is read.
pub const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// The largest list: some hundred thousand ports. No pod waits for a list of ports.
pub const LARGEST_LIST: usize = 128 * 1024 * 1024;

/// Settings of the transport.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Base URLs: `http://10.0.0.1:8181/midonet-api`.
    pub endpoints: Vec<String>,
    /// CA file, PEM; the only authority that is trusted. All `https://` endpoints need it, and with it or a client
    /// certificate no endpoint may be `http://`: credentials would leave in the clear.
    pub ca: Option<PathBuf>,
    /// Client certificate and key, PEM files; the key with mode 0600.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Limit for a connection.
    pub connect_timeout: Duration,
    /// From sending a request to the end of its answer. The server gives up after 30 s.
    pub request_timeout: Duration,
    /// The file that keeps the endpoint that worked last, when there are several.
    pub memory: Option<PathBuf>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            ca: None,
            identity: None,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
            memory: None,
        }
    }
}

/// HTTP.
pub struct Http {
    client: reqwest::Client,
    endpoints: EndpointOrder,
    /// Our certificate, if there is one.
    certificate: Option<PathBuf>,
}

impl Http {
    /// Checks the settings. Connects to nothing yet.
    pub fn new(settings: &HttpSettings) -> Result<Self, TransportError> {
        let wrong = |text: String| TransportError::Settings(text);
        let endpoints =
            settings.endpoints.iter().map(|url| base_url(url)).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        if endpoints.is_empty() {
            return Err(wrong("no endpoint is configured".to_owned()));
        }
        let secured = settings.ca.is_some() || settings.identity.is_some();
        for url in &endpoints {
            match (url.starts_with("https://"), secured) {
                (false, true) => {
                    return Err(wrong(format!("endpoint {url:?}: with certificates, https:// is expected")));
                }
                (true, _) if settings.ca.is_none() => {
                    return Err(wrong(format!("endpoint {url:?}: https:// needs a CA file (`ca`)")));
                }
                _ => {}
            }
        }
        // Only the first call in a process installs it; an earlier one is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(without_compression())
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.request_timeout)
            .tcp_nodelay(true)
            // Otherwise reqwest would parse the system's certificates, even for plain http.
            .tls_certs_only(certificates(settings.ca.as_deref()).map_err(wrong)?);
        if let Some((certificate, key)) = &settings.identity {
            builder = builder.identity(identity(certificate, key).map_err(wrong)?);
        }
        let client = builder.build().map_err(|error| wrong(reasons(&error)))?;
        let certificate = settings.identity.as_ref().map(|(certificate, _)| certificate.clone());
        let endpoints = EndpointOrder::new(endpoints);
        if let Some(memory) = &settings.memory {
            endpoints.remember_in(memory.clone());
        }
        Ok(Self { client, endpoints, certificate })
    }

    /// Recognises a failure caused by our certificate: the server names it in a TLS alert, or hangs up before the alert
    /// arrives while the certificate is not valid today.
    fn certificate_failure(&self, error: TransportError) -> TransportError {
        let (endpoint, reason, hung_up) = match &error {
            TransportError::NotSent { endpoint, reason } => (endpoint, reason, false),
            TransportError::NoAnswer { endpoint, reason } => (endpoint, reason, true),
            _ => return error,
        };
        let Some(path) = &self.certificate else { return error };
        let alert = certificate::refusal(reason).map(|alert| format!("the server says {alert}"));
        if alert.is_none() && !hung_up {
            return error;
        }
        let out_of_time =
            read::given(path, CERTIFICATES).ok().and_then(|pem| certificate::out_of_time(&pem, clock::now()));
        let Some(problem) = out_of_time.or(alert) else {
            let reason = format!("{reason}; perhaps it refuses this node's certificate (`controller.cert`)");
            return TransportError::NoAnswer { endpoint: endpoint.clone(), reason };
        };
        let reason = format!("{} (`controller.cert`): {problem} ({reason})", path.display());
        TransportError::Denied { endpoint: endpoint.clone(), reason }
    }

    async fn exchange(&self, base: &str, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        let endpoint = || base.to_owned();
        let url = format!("{base}{}", request.path);
        let largest = largest(&request.headers);
        let mut builder = self.client.request(request.method, url).headers(request.headers);
        if !request.body.is_empty() {
            builder = builder.body(request.body);
        }
        let mut response = builder.send().await.map_err(|error| failed(&error.without_url(), endpoint()))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let body = body(&mut response, largest).await.map_err(|problem| match problem {
            Problem::TooLarge => {
                TransportError::Unusable { endpoint: endpoint(), reason: format!("it is larger than {largest} bytes") }
            }
            Problem::Cut(reason) => TransportError::NoAnswer { endpoint: endpoint(), reason },
        })?;
        Ok(ApiResponse { status, headers, body })
    }
}

impl Transport for Http {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        let mut last = TransportError::Settings("no endpoint is configured".to_owned());
        for endpoint in self.endpoints.order() {
            let waiting = self.endpoints.wait_for(endpoint, &|| ());
            let outcome = self.exchange(self.endpoints.url(endpoint), request.clone()).await;
            waiting.over();
            match outcome.map_err(|error| self.certificate_failure(error)) {
                Ok(response) => {
                    match response.status {
                        // The endpoint or its backend fails. The request may have been executed, so only the caller
                        // can decide to repeat it, and then tries the next endpoint. The limit of one endpoint (429)
                        // says nothing about the others.
                        429 | 502..=504 => self.endpoints.leave(endpoint),
                        // The endpoint does not lead to the API.
                        _ if not_api::is_not_api(&response) => self.endpoints.leave(endpoint),
                        _ => self.endpoints.keep(endpoint),
                    }
                    return Ok(response);
                }
                Err(error @ TransportError::NotSent { .. }) => {
                    self.endpoints.leave(endpoint);
                    last = error;
                }
                Err(error) => {
                    self.endpoints.leave(endpoint);
                    return Err(error);
                }
            }
        }
        Err(last)
    }

    fn endpoints(&self) -> usize {
        self.endpoints.urls().len()
    }
}

enum Problem {
    TooLarge,
    Cut(String),
}

async fn body(response: &mut reqwest::Response, largest: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| {
            let why = reasons(&error.without_url());
            Problem::Cut(format!("its answer was cut off after {} bytes: {why}", body.len()))
        })?;
        let Some(chunk) = chunk else { return Ok(body.freeze()) };
        if body.len() + chunk.len() > largest {
            return Err(Problem::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
}

/// The largest answer to a request. The media type shows whether it asks for a list.
fn largest(headers: &HeaderMap) -> usize {
    let accepted = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accepted.contains(".collection.") { LARGEST_LIST } else { LARGEST_ANSWER }
}

/// The error of an exchange, by whether the request was sent.
fn failed(error: &reqwest::Error, endpoint: String) -> TransportError {
    let reason = reasons(error);
    if error.is_builder() {
        TransportError::Settings(format!("{endpoint}: {reason}"))
    } else if error.is_connect() {
        TransportError::NotSent { endpoint, reason }
    } else {
        TransportError::NoAnswer { endpoint, reason }
    }
}

/// Headers that forbid a content coding to everything between client and API (RFC 9110, section 12.5.3).
fn without_compression() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))])
}

/// An error with its causes in one line; reqwest's outermost message says little.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in atoll_model::error::causes(error) {
        text = format!("{text}: {cause}");
    }
    text
}

/// A base URL without its trailing slash. A URL with a user or a query is refused, because it would appear in logs.
fn base_url(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|error| format!("endpoint {text:?}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("endpoint {text:?}: http://HOST:PORT/PATH or https://… is expected"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("an endpoint must not hold a user, a query or a fragment".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn certificates(ca: Option<&Path>) -> Result<Vec<reqwest::Certificate>, String> {
    let Some(path) = ca else { return Ok(Vec::new()) };
    let text = read::given(path, CERTIFICATES).map_err(|error| format!("CA file {}: {error}", path.display()))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&text)
        .map_err(|error| format!("CA file {}: {}", path.display(), reasons(&error)))?;
    if certificates.is_empty() {
        return Err(format!("CA file {}: it holds no PEM certificate", path.display()));
    }
    Ok(certificates)
}

fn identity(certificate: &Path, key: &Path) -> Result<reqwest::Identity, String> {
    let read = |path: &Path| read::given(path, CERTIFICATES).map_err(|error| format!("{}: {error}", path.display()));
    let key = read::private(key).map_err(|problem| format!("client key {}: {problem}", key.display()))?;
    let mut text = (key + "\n").into_bytes();
    text.extend_from_slice(&read(certificate)?);
    reqwest::Identity::from_pem(&text)
        .map_err(|error| format!("client certificate {}: {}", certificate.display(), reasons(&error)))
}
