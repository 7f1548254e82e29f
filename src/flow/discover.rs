//! Where a provider's OAuth endpoints are: its row says so, or the metadata of its issuer does.
//! Must never take an endpoint from a document whose issuer is another, or at a host that the row does not name.

use super::{Answer, Error, Provider, Result, clean, fetch};
use crate::upstream::{Endpoint, Upstream};

/// The endpoints of a device login. Cached by the caller, if at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// RFC 8628 device authorization endpoint.
    pub device: Endpoint,
    /// RFC 6749 token endpoint.
    pub token: Endpoint,
    /// RFC 7009 revocation endpoint.
    pub revoke: Option<Endpoint>,
    /// Who is logged in.
    pub account: Option<Endpoint>,
}

/// The endpoints of a device login. Members of the row win; what they leave open is read from the issuer's metadata,
/// OpenID Connect Discovery first, then RFC 8414. Without an issuer nothing is sent.
pub fn endpoints(up: &Upstream, provider: &Provider) -> Result<Endpoints> {
    let found = metadata(up, provider)?;
    let member = |own: &Option<Endpoint>, name: &str| {
        if let Some(own) = own {
            return Ok(own.clone());
        }
        let text = found.as_ref().and_then(|found| found.text(name)).unwrap_or_default();
        let endpoint = Endpoint::try_from(text.to_owned()).ok().filter(|at| provider.hosts().contains(at.origin()));
        let why = format!("its `{name}` is `{}`, which the configuration does not name", clean(text));
        endpoint.ok_or_else(|| unusable(provider, &why))
    };
    Ok(Endpoints {
        device: member(&provider.device_endpoint, "device_authorization_endpoint")?,
        token: member(&provider.token_endpoint, "token_endpoint")?,
        // What a login does not need is left out rather than an obstacle to it.
        revoke: member(&provider.revoke_endpoint, "revocation_endpoint").ok(),
        account: member(&provider.account_endpoint, "userinfo_endpoint").ok(),
    })
}

/// The metadata of the row's issuer, if it has one. Its place is appended to the issuer (OpenID Connect Discovery 1.0, 4), or stands between its
/// host and its path (RFC 8414, 3.1).
fn metadata(up: &Upstream, provider: &Provider) -> Result<Option<Answer>> {
    let Some(issuer) = &provider.issuer else { return Ok(None) };
    let text = issuer.as_str().trim_end_matches('/');
    let path = text.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
    let places = [
        format!("{text}/.well-known/openid-configuration"),
        format!("{}/.well-known/oauth-authorization-server{path}", issuer.origin()),
    ];
    for place in places {
        match fetch(up, &Endpoint::try_from(place).map_err(Error::Network)?, None).and_then(Answer::accepted) {
            Ok(found) if found.text("issuer") == Some(issuer.as_str()) => return Ok(Some(found)),
            Ok(found) if found.text("token_endpoint").is_some() => {
                let named = clean(found.text("issuer").unwrap_or_default());
                return Err(unusable(provider, &format!("it belongs to the issuer `{named}`")));
            }
            Err(error @ Error::Network(_)) => return Err(error),
            // Not there: the other place may have it.
            _ => {}
        }
    }
    Err(unusable(provider, "no metadata was found"))
}

fn unusable(provider: &Provider, why: &str) -> Error {
    let issuer = provider.issuer.as_ref().map_or("", Endpoint::as_str);
    Error::Reply(format!("metadata of {issuer}: {why}; name `device_endpoint` and `token_endpoint` in config.json"))
}
