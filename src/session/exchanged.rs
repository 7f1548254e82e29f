//! Short-lived tokens that stand for a login's own where the API takes only such (GitHub Copilot, for editors).
//! Must never write one down, or end a login for anything but the server's word that its token is not taken any more.

use super::{Credential, DEAD, Error, Life, LoginId, REFRESH_PAUSE, Result, Session, now};
use crate::audit::Outcome;
use crate::flow::copilot::{Exchange, ShortLived, exchange};
use crate::flow::{self, Provider};
use crate::secret::Secret;
use crate::store::{Record, State};
use std::time::Instant;

impl Session {
    /// What stands for the login's token. One that the server does not take any more is renewed once, where it can be, by us or by
    /// whoever did so meanwhile; else the login is over.
    pub(super) fn short_lived(
        &self,
        login: &LoginId,
        provider: &Provider,
        with: &Exchange,
        record: &Record,
        refused: Option<&Credential>,
    ) -> Result<ShortLived> {
        let is_over = |error: &Error| matches!(error, Error::Flow(_, flow::Error::LoginOver(_)));
        let mut made = self.exchanged(login, provider, with, &record.access_token, refused);
        if made.as_ref().is_err_and(is_over) && record.refresh_token.is_some() {
            let renewed = self.refresh(&login.user, provider, &record.access_token, true)?;
            made = self.exchanged(login, provider, with, &renewed.access_token, refused);
        }
        match made {
            Err(error) if is_over(&error) => self.mark(login, State::Dead),
            made => made,
        }
    }

    /// What the login's token was exchanged for before, unless the provider `refused` that or wants it renewed; else anew.
    fn exchanged(
        &self,
        login: &LoginId,
        provider: &Provider,
        with: &Exchange,
        token: &Secret,
        refused: Option<&Credential>,
    ) -> Result<ShortLived> {
        let fitting = |life: &mut Life| {
            let is_new = |kept: &ShortLived| refused.is_none_or(|refused| refused.token != kept.token);
            life.short_lived.clone().filter(|kept| kept.made_of == *token && is_new(kept))
        };
        let is_fresh = |kept: &ShortLived| kept.renew_at > now();
        if let Some(kept) = self.with_life(login, fitting).filter(is_fresh) {
            return Ok(kept);
        }
        // One at a time, as with refreshes: whoever had to wait finds what the one before brought, or how the login is since.
        let _turn = self.turn(&login.user, &login.provider)?;
        if self.record(&login.user, &login.provider)?.state == State::Dead {
            return Err(Error::Unusable(login.provider.clone(), DEAD));
        }
        let kept = self.with_life(login, fitting);
        if let Some(kept) = kept.clone().filter(is_fresh) {
            return Ok(kept);
        }
        let later = |why| kept.filter(|kept| kept.ends_at > now()).ok_or(Error::Later(login.provider.clone(), why));
        let paused = |life: &mut Life| life.unexchanged.clone().filter(|(at, _)| at.elapsed() < REFRESH_PAUSE);
        if let Some((_, why)) = self.with_life(login, paused) {
            return later(why);
        }
        match exchange(self.http(provider)?, with, token, now()) {
            Ok(new) => {
                self.with_life(login, |life| life.short_lived = Some(new.clone()));
                self.note(&login.user, &login.provider, "auth.exchange", Outcome::Complete)?;
                Ok(new)
            }
            Err(error) if error.is_transient() => {
                let why = format!("no short-lived token is to be had just now: {error}");
                self.with_life(login, |life| life.unexchanged = Some((Instant::now(), why.clone())));
                later(why)
            }
            Err(error) => Err(Error::Flow(login.provider.clone(), error)),
        }
    }
}
