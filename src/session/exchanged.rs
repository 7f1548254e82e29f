//! Short-lived tokens that stand for a login's own where the API takes only such (GitHub Copilot, for editors).
//! Must never write one down, or let a failed exchange end a login.

use super::{Credential, Error, LoginId, Result, Session, now};
use crate::audit::Outcome;
use crate::flow::Provider;
use crate::flow::copilot::{Exchange, ShortLived, exchange};
use crate::secret::Secret;

impl Session {
    /// What the login's token was exchanged for before, unless the provider `refused` that or wants it renewed; else anew.
    pub(super) fn exchanged(
        &self,
        login: &LoginId,
        provider: &Provider,
        with: &Exchange,
        token: &Secret,
        refused: Option<&Credential>,
    ) -> Result<ShortLived> {
        let kept = self.with_life(login, |life| life.short_lived.clone());
        let kept =
            kept.filter(|kept| kept.made_of == *token && refused.is_none_or(|refused| refused.token != kept.token));
        if let Some(kept) = kept.clone().filter(|kept| kept.renew_at > now()) {
            return Ok(kept);
        }
        match exchange(self.http(provider)?, with, token, now()) {
            Ok(new) => {
                self.with_life(login, |life| life.short_lived = Some(new.clone()));
                self.note(&login.user, &login.provider, "auth.exchange", Outcome::Complete)?;
                Ok(new)
            }
            Err(error) if error.is_transient() => {
                let why = format!("no short-lived token is to be had just now: {error}");
                kept.filter(|kept| kept.ends_at > now()).ok_or(Error::Later(login.provider.clone(), why))
            }
            Err(error) => Err(Error::Flow(login.provider.clone(), error)),
        }
    }
}
