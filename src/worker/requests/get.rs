//! Fetching a registration: it changes nothing, so it is never in doubt and may be asked again at any time.

use std::sync::Arc;

use super::{Asked, Registered, look, rejected};
use crate::config::credentials::Account;
use crate::request::Wanted;
use crate::worker::Worker;
use crate::worker::accept::found;
use crate::worker::case::Case;
use crate::worker::doubt::too_old;
use crate::worker::settle::Ending;

pub(super) async fn run(
    worker: &Worker,
    case: &Case,
    wanted: &Wanted,
    account: &Arc<Account>,
) -> Result<Ending, Box<Ending>> {
    Ok(
        match look(worker, case, &Asked::Whole(wanted), account).await? {
            Registered::At(_, registration) => found(worker, case, wanted, registration),
            Registered::TooOld(_) => too_old(wanted.irn(), None),
            Registered::Nowhere => Ending::NotFound,
            Registered::Refused(_, refusal) => rejected(&refusal),
        },
    )
}
