//! Fetching a registration: it changes nothing, so it is never in doubt and may be asked again at any time.

use std::sync::Arc;

use super::{Asked, Registered, is_unnamed, look, rejected};
use crate::config::credentials::Account;
use crate::preflight::Report;
use crate::request::{NO_SELLER, Wanted};
use crate::worker::accept::found;
use crate::worker::case::Case;
use crate::worker::doubt::too_old;
use crate::worker::settle::Ending;
use crate::worker::{Worker, refused_by_preflight};

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
            Registered::Nowhere(_) if is_unnamed(account, wanted.seller()) => {
                refused_by_preflight(&Report::of(&[NO_SELLER]))
            }
            Registered::Nowhere(_) => Ending::NotFound,
            Registered::Refused(_, refusal) => rejected(&refusal),
        },
    )
}
