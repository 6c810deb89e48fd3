//! The status as a page for people: whether it works, what waits and why, and what is to be done.
//!
//! One rule: it shows what `/status` has, which is no document's data, and it loads nothing from anywhere else.

mod gstins;
mod health;
mod html;
mod tables;

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::State as Shared;
use axum::http::header;
use axum::response::{Html as Body, IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Admin;
use super::status::Status;
use html::{Clock, Html};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Nothing runs, is shown or is loaded but what is in the page itself, as it was built (CSP Level 3, 2.3.1). The script
/// asks this endpoint for the page again.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// The page.
pub(super) async fn page(Shared(admin): Shared<Admin>) -> Response {
    let page = render(&Status::of(&admin).await);
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, Body(page)).into_response()
}

fn render(status: &Status) -> String {
    let mut page = Html::default();
    let verdict = health::Verdict::of(status);
    head(&mut page, status, &verdict);
    page.raw("<main>");
    health::section(&mut page, status, &verdict);
    tables::pauses(&mut page, status);
    page.raw("<div class=\"columns\">");
    tables::queues(&mut page, status);
    tables::waits(&mut page, status);
    tables::outcomes(&mut page, status);
    tables::portals(&mut page, status);
    page.raw("</div>");
    gstins::section(&mut page, status);
    tables::clients(&mut page, status);
    page.raw("</main>");
    foot(&mut page, status);
    page.into_string()
}

fn head(page: &mut Html, status: &Status, verdict: &health::Verdict) {
    page.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
        .raw("<meta name=\"color-scheme\" content=\"light dark\">")
        // Without a script the page is loaded anew; with one, it changes where something has changed.
        .raw("<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>")
        .raw("<link rel=\"icon\" href=\"data:,\"><title>");
    page.text(verdict.title)
        .raw(" – irn-worker ")
        .text(&status.replica);
    page.raw("</title><style>")
        .raw(STYLE)
        .raw("</style></head><body>");
    page.raw("<header><h1>irn-worker</h1><p>replica <b>")
        .text(&status.replica);
    page.raw("</b>, ").text(status.replicas.max(1));
    page.raw(match status.replicas {
        0 | 1 => " replica sharing the limits</p>",
        _ => " replicas sharing the limits</p>",
    });
    page.raw("<p id=\"stale\" role=\"status\" hidden>");
    page.raw("The worker does not answer: this page is old.</p></header>");
}

fn foot(page: &mut Html, status: &Status) {
    page.raw("<footer><p>Version ").text(status.version);
    page.raw(", running since ").text(Clock(status.started_at));
    page.raw(". As of <time id=\"as-of\" datetime=\"")
        .text(status.at);
    page.raw("\">").text(status.at.strftime("%H:%M:%S UTC"));
    page.raw("</time>, and again every few seconds.</p><p>The same for machines: ")
        .raw("<a href=\"/status\">/status</a>, <a href=\"/metrics\">/metrics</a>, <a href=\"/readyz\">/readyz</a></p>")
        .raw("</footer><script>");
    page.raw(SCRIPT).raw("</script></body></html>\n");
}
