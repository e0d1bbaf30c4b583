//! Which proxy the environment names for an address, read as curl reads it.

use anyhow::Result;
use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use super::no_proxy;
use crate::mistake;

/// The proxy for `uri`, unless `NO_PROXY` names its host.
pub(super) fn of(uri: &Uri, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>> {
    let direct = either("no_proxy", &variable).map(|(_, list)| list).unwrap_or_default();
    if uri.host().is_none_or(|host| no_proxy::names(&direct, host)) {
        return Ok(None);
    }
    named(uri.scheme_str().unwrap_or_default(), variable)
}

/// The proxy for addresses of a scheme: of `HTTPS_PROXY` or `HTTP_PROXY`, whichever fits, else of
/// `ALL_PROXY`; each also in lower case, which goes first.
///
/// # Errors
/// If what is named is no proxy for HTTP.
pub(super) fn named(
    scheme: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>> {
    let fits = either(&format!("{}_proxy", scheme.to_ascii_lowercase()), &variable);
    let Some((name, value)) = fits.or_else(|| either("all_proxy", &variable)) else {
        return Ok(None);
    };
    if value.trim().is_empty() {
        return Ok(None);
    }
    let proxy = Proxy::new(value.trim())
        .map_err(|_| mistake(format!("{name} names no proxy; give it as http://HOST:PORT")))?;
    if !matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) {
        return Err(mistake(format!(
            "{name} names a proxy that is neither http:// nor https://; unset it or name another"
        )));
    }
    Ok(Some(proxy))
}

/// A variable in lower case, else in upper case, with the name it has.
fn either(name: &str, variable: impl Fn(&str) -> Option<String>) -> Option<(String, String)> {
    let spellings = [name.to_owned(), name.to_ascii_uppercase()];
    spellings.into_iter().find_map(|name| variable(&name).map(|value| (name, value)))
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
        let proxy = of(&url.parse().unwrap(), variable).unwrap();
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
        check("http://127.0.0.1:8000/x.tgz", &[proxy, ("NO_PROXY", "127.0.0.0/8")], None);
        check("http://[fd00::1]:80/x.tgz", &[proxy, ("NO_PROXY", "fd00::/8")], None);
    }

    #[test]
    fn other_proxies_are_refused() {
        let name =
            |value: &'static str| move |name: &str| (name == "ALL_PROXY").then(|| value.to_owned());
        let error = named("http", name("socks5://host:1")).unwrap_err().to_string();
        assert!(error.contains("ALL_PROXY"), "{error}");
        assert!(named("http", name("http://:bad:")).is_err());
    }
}
