//! Which proxy the environment names for an address, read as curl reads it.

use anyhow::{Context as _, Result, bail};
use ureq::{Proxy, ProxyProtocol};

/// The proxy for `url`: of `HTTPS_PROXY` or `HTTP_PROXY`, whichever fits the address, else of
/// `ALL_PROXY`; each also in lower case, which goes first. Hosts in `NO_PROXY` are asked directly.
///
/// The proxy is asked for a tunnel (`CONNECT`), for `http` addresses too.
pub(super) fn of(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>> {
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let either = |name: &str| {
        let spellings = [name.to_owned(), name.to_ascii_uppercase()];
        spellings.into_iter().find_map(|name| variable(&name).map(|value| (name, value)))
    };
    let Some((name, value)) = either(&format!("{scheme}_proxy")).or_else(|| either("all_proxy"))
    else {
        return Ok(None);
    };
    if value.trim().is_empty() {
        return Ok(None);
    }
    let named = Proxy::new(value.trim())
        .with_context(|| format!("{name} names no proxy; give it as http://HOST:PORT"))?;
    if !matches!(named.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) {
        bail!("{name} names a proxy that is neither http:// nor https://; unset it or name another")
    }
    let mut proxy = Proxy::builder(named.protocol()).host(named.host()).port(named.port());
    if let Some(user) = named.username() {
        proxy = proxy.username(user);
    }
    if let Some(password) = named.password() {
        proxy = proxy.password(password);
    }
    let direct = either("no_proxy").map(|(_, value)| value).unwrap_or_default();
    for host in direct.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        proxy = proxy.no_proxy(host);
        if !host.starts_with(['*', '.']) {
            // A domain stands for its hosts too.
            proxy = proxy.no_proxy(&format!(".{host}"));
        }
    }
    proxy.build().map(Some).with_context(|| format!("{name} names no proxy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, environment: &[(&str, &str)], want: Option<&str>) {
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy =
            of(url, variable).unwrap().filter(|proxy| !proxy.is_no_proxy(&url.parse().unwrap()));
        assert_eq!(proxy.as_ref().map(Proxy::host), want, "{url} {environment:?}");
    }

    #[test]
    fn the_address_decides() {
        let both = [("HTTP_PROXY", "http://plain:1"), ("HTTPS_PROXY", "http://safe:2")];
        check("http://m/x.tgz", &both, Some("plain"));
        check("https://m/x.tgz", &both, Some("safe"));
        check("https://m/x.tgz", &both[..1], None);
        check("https://m/x.tgz", &[("ALL_PROXY", "http://all:3")], Some("all"));
        check("http://m/x.tgz", &[("http_proxy", "low:1"), both[0]], Some("low"));
        check("http://m/x.tgz", &[("http_proxy", ""), both[0]], None);
        check("http://m/x.tgz", &[], None);
    }

    #[test]
    fn some_hosts_are_asked_directly() {
        let proxy = ("HTTP_PROXY", "http://plain:1");
        check("http://a.org/x.tgz", &[proxy, ("NO_PROXY", "b.org, a.org")], None);
        check("http://m.a.org/x.tgz", &[proxy, ("no_proxy", "a.org")], None);
        check("http://ba.org/x.tgz", &[proxy, ("NO_PROXY", "a.org")], Some("plain"));
        check("http://m.a.org/x.tgz", &[proxy, ("NO_PROXY", ".a.org")], None);
        check("http://a.org/x.tgz", &[proxy, ("NO_PROXY", "*")], None);
    }

    #[test]
    fn other_proxies_are_refused() {
        let name =
            |value: &'static str| move |name: &str| (name == "ALL_PROXY").then(|| value.to_owned());
        let error = of("http://m/", name("socks5://host:1")).unwrap_err().to_string();
        assert!(error.contains("ALL_PROXY"), "{error}");
        assert!(of("http://m/", name("http://:bad:")).is_err());
    }
}
