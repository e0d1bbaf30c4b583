//! Connections as the environment's proxies want them: for `https` a tunnel (`CONNECT`), for `http` a
//! request with the whole address (RFC 9112, section 3.2.2). Many proxies refuse tunnels to port 80.

use std::io;
use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};
use ureq::{Agent, Error, Proxy};

use super::proxy;

/// As much as is read at once: an answer's header may be as long, whatever comes before or behind it.
const BUFFER: usize = 128 << 10;

/// A client that waits no longer than `timeout` for a connection, for an answer, and for each piece
/// of its body.
///
/// # Errors
/// If the environment names something else than a proxy for `url`.
pub(super) fn client(url: &Uri, timeout: Duration) -> Result<Agent> {
    let proxy = proxy::named(url.scheme_str().unwrap_or_default(), variable)?;
    // A redirect may lead to the other scheme.
    let other =
        || ["http", "https"].into_iter().find_map(|other| proxy::named(other, variable).ok()?);
    let proxy = proxy.or_else(other);
    let connector = Ways { timeout, inner: DefaultConnector::new() };
    Ok(Agent::with_parts(config(timeout, proxy), connector, DefaultResolver::default()))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn config(timeout: Duration, proxy: Option<Proxy>) -> Config {
    let timeout = Some(timeout);
    Agent::config_builder()
        .timeout_resolve(timeout)
        .timeout_connect(timeout)
        .timeout_recv_response(timeout)
        .timeout_per_read(timeout)
        .timeout_per_write(timeout)
        .input_buffer_size(BUFFER)
        .max_response_header_size(BUFFER)
        .proxy(proxy)
        .http_status_as_error(false)
        .build()
}

/// Chooses for each address, that of a redirect too, how it is reached.
#[derive(Debug)]
struct Ways {
    timeout: Duration,
    inner: DefaultConnector,
}

impl Connector for Ways {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        if details.config.proxy().is_none() {
            // There are no proxies, or this is the way to one.
            return self.inner.connect(details, chained);
        }
        let proxy = proxy::of(details.uri, variable).map_err(|error| Error::Other(error.into()))?;
        let tunnel = proxy.clone().filter(|_| details.needs_tls());
        let config = config(self.timeout, tunnel.clone());
        let connect = |uri: &Uri, addrs: ResolvedSocketAddrs| {
            let details = ConnectionDetails {
                uri,
                addrs,
                config: &config,
                request_level: details.request_level,
                resolver: details.resolver,
                now: details.now,
                timeout: details.timeout,
                current_time: details.current_time.clone(),
                run_connector: details.run_connector.clone(),
                register_shutdown: details.register_shutdown.clone(),
            };
            self.inner.connect(&details, chained)
        };
        // Where a proxy is configured, nobody has looked up the host yet.
        let resolve = |uri: &Uri| details.resolver.resolve(uri, &config, details.timeout);
        match proxy {
            Some(_) if tunnel.is_some() => connect(details.uri, details.addrs.clone()),
            Some(proxy) => {
                let transport = connect(proxy.uri(), resolve(proxy.uri())?)?;
                let through =
                    |inner| Box::new(Through::new(inner, details.uri, &proxy)) as Self::Out;
                Ok(transport.map(through))
            }
            None => connect(details.uri, resolve(details.uri)?),
        }
    }
}

/// A connection to a proxy, on which requests name the server they are for.
struct Through {
    inner: Box<dyn Transport>,
    /// `http://HOST:PORT`.
    server: String,
    /// A line of the header, or nothing.
    credentials: String,
}

impl Through {
    fn new(inner: Box<dyn Transport>, uri: &Uri, proxy: &Proxy) -> Self {
        let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
        let server = format!("http://{}{port}", uri.host().unwrap_or_default());
        let credentials = proxy.username().map(|user| {
            let both = format!("{user}:{}", proxy.password().unwrap_or_default());
            format!("proxy-authorization: Basic {}\r\n", BASE64_STANDARD.encode(both))
        });
        Self { inner, server, credentials: credentials.unwrap_or_default() }
    }
}

/// A request's header with the server's address before the path, and another line below the first.
///
/// What is no beginning of a `GET` stays as it is; nothing else is ever sent first.
fn addressed(sent: &[u8], server: &str, line: &str) -> Vec<u8> {
    let end = sent.windows(2).position(|two| two == b"\r\n").map(|at| at + 2);
    match (sent.strip_prefix(b"GET "), end) {
        (Some(_), Some(end)) => {
            let (first, rest) = sent.split_at(end);
            [b"GET ", server.as_bytes(), &first[4..], line.as_bytes(), rest].concat()
        }
        _ => sent.to_vec(),
    }
}

impl Transport for Through {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = self.inner.buffers().output();
        let sent = addressed(&output[..amount], &self.server, &self.credentials);
        let Some(place) = output.get_mut(..sent.len()) else {
            return Err(Error::Io(io::Error::other("the address is too long for a proxy")));
        };
        place.copy_from_slice(&sent);
        self.inner.transmit_output(sent.len(), timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

impl std::fmt::Debug for Through {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the password.
        formatter.debug_struct("Through").field("server", &self.server).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_told_the_whole_address() {
        let told = |sent: &str, line| {
            String::from_utf8(addressed(sent.as_bytes(), "http://m:81", line)).unwrap()
        };
        assert_eq!(
            told("GET /a?b HTTP/1.1\r\nhost: m:81\r\n\r\n", ""),
            "GET http://m:81/a?b HTTP/1.1\r\nhost: m:81\r\n\r\n"
        );
        assert_eq!(
            told("GET / HTTP/1.1\r\nhost: m\r\n\r\n", "who: me\r\n"),
            "GET http://m:81/ HTTP/1.1\r\nwho: me\r\nhost: m\r\n\r\n"
        );
        assert_eq!(told("range: bytes=1-\r\n\r\n", "who: me\r\n"), "range: bytes=1-\r\n\r\n");
    }
}
