//! One request from arrival to answer: counted, delayed, held, refused, spoilt or answered, as the faults in force say.
//! It runs to its end even when the client has gone: a portal that was asked goes on working.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::answer::{Answer, Granted, Payload, Refused, Registration};
use crate::call::{Call, Contract, DocumentQuery, Endpoint, Headers, Request};
use crate::clock::{financial_year, http_date, parse_day};
use crate::corpus::Presigned;
use crate::crypto::Key;
use crate::envelope::{Shapes, render};
use crate::faults::{Ending, Failure, Incoming, Pause, Plan, Spoil, When};
use crate::held::HeldRequest;
use crate::irn::irn;
use crate::jwt;
use crate::mastergst;
use crate::node::Node;
use crate::portal::{Opened, without_inner_base64};
use crate::rules::invoice::Name;
use crate::sandbox::Sandbox;
use crate::stats::Order;
use crate::timer;

/// Marks a response that must not be sent: the connection is to be closed instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HangUp;

/// The token or the key is refused: nothing was done, and the same call comes again with a new session.
const SESSION_CODES: [&str; 5] = ["1005", "1015", "1020", "106", "238"];

const HTML: &str = "<!DOCTYPE html><html><head><title>Request Rejected</title></head><body>The requested URL was \
    rejected. Please consult with your administrator.<br>Your support ID is: 1234567890</body></html>";

/// What a truncated answer shows of itself when the portal never acted.
const HALF_AN_ENVELOPE: &str =
    r#"{"Status":1,"Data":"GIhOG99b+MPee6D5cDrWdpKWzYu7SpI0+JWGF0RN9RuSls2Lu0qS"#;

impl Sandbox {
    /// Takes one request to its end.
    pub(crate) async fn exchange(self: Arc<Self>, request: Request) -> Response {
        let endpoint = request.call.endpoint();
        let gstin = request.headers.gstin.as_str();
        self.stats.arrived(endpoint, gstin);
        let plain = self.open(&request);
        let presigned = plain
            .as_deref()
            .filter(|_| endpoint == Endpoint::Generate)
            .and_then(|plain| self.in_corpus(plain, gstin));
        let node = match &presigned {
            Some(_) => None,
            None => plain.as_deref().and_then(Node::parse),
        };
        let subject = match &presigned {
            Some(presigned) => Subject::of_corpus(presigned),
            None => self.subject(&request, node.as_ref()),
        };
        let flight = subject
            .document
            .zip(subject.irn.clone())
            .map(|(document, irn)| self.stats.submitted(gstin, document, irn));
        if let (Some(order), Some(irn)) = (request.call.order(), &subject.irn) {
            self.stats.ordered(gstin, order, irn);
        }
        let number = subject.number.as_deref();
        let plan = self.faults.plan(&Incoming {
            endpoint,
            gstin,
            number,
        });

        self.pause(&plan.before, &request, number, false).await;
        let opened = Opened {
            request: &request,
            plain: plain.as_deref(),
            node: node.as_ref(),
            presigned: presigned.as_deref(),
            document: flight.as_ref().map(|flight| flight.document()),
        };
        let irn = subject.irn.as_deref();
        let response = self.end(&plan, &opened, irn);
        self.pause(&plan.after, &request, number, true).await;
        self.dated(response)
    }

    /// Decrypts the body under the session its token names, whatever the gates will say of it.
    fn open(&self, request: &Request) -> Option<Vec<u8>> {
        if !request.call.has_data() {
            return None;
        }
        if request.contract == Contract::MasterGst {
            return Some(request.body.to_vec());
        }
        let key = self
            .sessions()
            .find(&request.headers.token, self.now())?
            .key;
        let plain = key.open(&request.data()?)?;
        Some(if request.call == Call::EwbCancel {
            without_inner_base64(plain)
        } else {
            plain
        })
    }

    /// Which document the request is about.
    fn subject(&self, request: &Request, node: Option<&Node<'_>>) -> Subject {
        match &request.call {
            Call::Generate => node
                .map(|node| self.subject_of_document(node))
                .unwrap_or_default(),
            Call::GetByDoc(query) => Subject {
                number: query.docnum.clone(),
                document: None,
                irn: self.irn_of_query(&request.headers, query),
            },
            Call::GetByIrn(irn) | Call::EwbGet(irn) => self.subject_of_irn(irn),
            Call::Cancel | Call::EwbGenerate => {
                let irn = node.and_then(|node| node.text("Irn"));
                irn.map(|irn| self.subject_of_irn(irn)).unwrap_or_default()
            }
            Call::Auth | Call::Rejected(_) | Call::Gstin(_) | Call::Sync(_) | Call::EwbCancel => {
                Subject::default()
            }
        }
    }

    /// The name of a document in the counters.
    pub(crate) fn name_of(&self, node: &Node<'_>) -> Option<String> {
        self.subject_of_document(node).document
    }

    fn subject_of_document(&self, node: &Node<'_>) -> Subject {
        let Some(name) = Name::read(node) else {
            return Subject::default();
        };
        let year = name.date.map_or_else(|| "?".to_owned(), financial_year);
        let number = self.hashed_number(&name.number);
        let document = format!("{}/{}/{number}/{year}", name.seller, name.typ);
        Subject {
            irn: Some(irn(&name.seller, &year, &name.typ, &number)),
            number: Some(name.number),
            document: Some(document),
        }
    }

    /// The IRN of the document that a look-up describes.
    fn irn_of_query(&self, headers: &Headers, query: &DocumentQuery) -> Option<String> {
        let seller = if headers.sup_gstin.is_empty() {
            &headers.gstin
        } else {
            &headers.sup_gstin
        };
        let number = self.hashed_number(query.docnum.as_deref()?);
        let kind = query.doctype.as_deref()?.to_ascii_uppercase();
        let year = financial_year(parse_day(query.docdate.as_deref()?)?);
        Some(irn(seller, &year, &kind, &number))
    }

    fn subject_of_irn(&self, irn: &str) -> Subject {
        let number = self
            .documents()
            .find(&irn.to_lowercase())
            .map(|document| document.number.clone());
        Subject {
            number,
            document: None,
            irn: Some(irn.to_lowercase()),
        }
    }

    async fn pause(
        &self,
        pauses: &[Pause],
        request: &Request,
        number: Option<&str>,
        committed: bool,
    ) {
        for pause in pauses {
            match pause {
                Pause::Delay(ms) => timer::pause(Duration::from_millis(*ms)).await,
                Pause::Hold(rule) => {
                    let held = HeldRequest {
                        id: 0,
                        rule: rule.clone(),
                        endpoint: request.call.endpoint(),
                        gstin: request.headers.gstin.clone(),
                        number: number.map(str::to_owned),
                        committed,
                    };
                    self.held.keep(held).await;
                }
            }
        }
    }

    fn end(&self, plan: &Plan, opened: &Opened<'_>, irn: Option<&str>) -> Response {
        match &plan.ending {
            Ending::Normal => {
                let (answer, key) = self.act(opened);
                self.count_what_was_told(&answer, opened, irn);
                json_response(dressed(opened.request, &answer, key.as_ref(), &plan.shapes))
            }
            Ending::Revoked => {
                let token = &opened.request.headers.token;
                self.sessions().revoke(|session| session.token == *token);
                let (answer, key) = self.act(opened);
                self.count_what_was_told(&answer, opened, irn);
                json_response(dressed(opened.request, &answer, key.as_ref(), &plan.shapes))
            }
            Ending::Spoilt(spoil) => {
                let (answer, key) = self.act(opened);
                if answer.is_err() {
                    // A refusal is not spoilt: the client can read it.
                    self.count_what_was_told(&answer, opened, irn);
                }
                match self.spoilt(*spoil, answer, key) {
                    Ok((answer, key)) => {
                        json_response(dressed(opened.request, &answer, key.as_ref(), &plan.shapes))
                    }
                    Err(_) => status_response(StatusCode::INTERNAL_SERVER_ERROR),
                }
            }
            Ending::Failed(When::Before, Failure::Truncated) => {
                json_response(half_an_answer(opened.request))
            }
            Ending::Failed(When::After, Failure::Truncated) => {
                json_response(half(&self.deserved(opened, &plan.shapes)))
            }
            Ending::Failed(when, failure) => {
                let says_nothing_done = match failure {
                    Failure::Status { status, .. } => *status == 429,
                    Failure::Error { code, .. } => SESSION_CODES.contains(&code.as_str()),
                    Failure::Drop
                    | Failure::Html { .. }
                    | Failure::Empty { .. }
                    | Failure::Truncated
                    | Failure::NoReason => false,
                };
                if says_nothing_done && *when == When::Before {
                    self.count_nothing_done(opened, irn);
                }
                if *when == When::After {
                    // The client is not to see this answer.
                    drop(self.act(opened));
                }
                self.failed(failure, opened, &plan.shapes)
            }
        }
    }

    /// The body of the answer the request deserves.
    fn deserved(&self, opened: &Opened<'_>, shapes: &Shapes) -> String {
        let (answer, key) = self.act(opened);
        dressed(opened.request, &answer, key.as_ref(), shapes)
    }

    /// Answers and counts.
    fn act(&self, opened: &Opened<'_>) -> (Answer, Option<Key>) {
        let (answer, key) = self.answer(opened);
        let headers = &opened.request.headers;
        if let Err(refused) = &answer {
            let duplicate = refused
                .errors
                .iter()
                .any(|error| matches!(error.code.as_ref(), "2150" | "2278"));
            if let Some(document) = opened.document.filter(|_| duplicate) {
                self.stats.duplicate(&headers.gstin, document);
            }
            self.stats
                .refused(&headers.gstin, &headers.client_id, &refused.errors);
        }
        (answer, key)
    }

    /// What a readable answer tells the client of a document's fate.
    fn count_what_was_told(&self, answer: &Answer, opened: &Opened<'_>, irn: Option<&str>) {
        let code = answer
            .as_ref()
            .err()
            .and_then(|refused| refused.errors.first())
            .map(|error| error.code.as_ref());
        match (&opened.request.call, code, opened.document, irn) {
            (Call::Generate, Some(code), Some(document), _) if !matches!(code, "2150" | "2278") => {
                self.stats.fate_told(document);
            }
            (
                Call::GetByDoc(_) | Call::GetByIrn(_),
                None | Some("2148" | "2154" | "2283"),
                _,
                Some(irn),
            ) => {
                self.stats.looked_up(irn);
                self.stats.order_told(Order::Cancel, irn);
            }
            (Call::EwbGet(_), None | Some("4003" | "4005"), _, Some(irn)) => {
                self.stats.order_told(Order::EwayBill, irn);
            }
            (Call::Cancel | Call::EwbGenerate, Some(code), _, Some(_))
                if !matches!(code, "9999" | "4002") =>
            {
                self.count_nothing_done(opened, irn);
            }
            _ => {}
        }
    }

    /// The client can tell that nothing was done.
    fn count_nothing_done(&self, opened: &Opened<'_>, irn: Option<&str>) {
        if let Some(document) = opened.document {
            self.stats.fate_told(document);
        }
        if let (Some(order), Some(irn)) = (opened.request.call.order(), irn) {
            self.stats.order_told(order, irn);
        }
    }

    fn failed(&self, failure: &Failure, opened: &Opened<'_>, shapes: &Shapes) -> Response {
        match failure {
            Failure::Drop => {
                let mut response = Response::new(Body::empty());
                response.extensions_mut().insert(HangUp);
                response
            }
            Failure::Status {
                status,
                retry_after,
            } => {
                let mut response = status_response(status_code(*status));
                if let Some(seconds) = retry_after {
                    response
                        .headers_mut()
                        .insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
                }
                response
            }
            Failure::Html { status } => {
                response(status_code(*status), "text/html", HTML.to_owned())
            }
            Failure::Empty { status } => {
                response(status_code(*status), "application/json", String::new())
            }
            Failure::Truncated => json_response(half_an_answer(opened.request)),
            Failure::Error {
                code,
                message,
                info,
            } => {
                let mut refused = Refused::one(code.clone(), message.clone());
                refused.info.clone_from(info);
                self.refused(refused, opened, shapes)
            }
            Failure::NoReason => self.refused(Vec::new().into(), opened, shapes),
        }
    }

    fn refused(&self, refused: Refused, opened: &Opened<'_>, shapes: &Shapes) -> Response {
        let headers = &opened.request.headers;
        if opened.request.call == Call::Auth {
            self.stats.logged_in(&headers.gstin, false);
        }
        self.stats
            .refused(&headers.gstin, &headers.client_id, &refused.errors);
        json_response(dressed(opened.request, &Err(refused), None, shapes))
    }

    /// Spoils an answer; one that has nothing to spoil stays as it is.
    fn spoilt(
        &self,
        spoil: Spoil,
        answer: Answer,
        key: Option<Key>,
    ) -> Result<(Answer, Option<Key>)> {
        let Ok(granted) = answer else {
            return Ok((answer, key));
        };
        let Granted { payload, info } = granted;
        match (spoil, payload) {
            (Spoil::WrongKey, Payload::Login(mut login)) => {
                login["Sek"] = Key::random().wrapped_under(&Key::random()).into();
                Ok((
                    Ok(Granted {
                        payload: Payload::Login(login),
                        info,
                    }),
                    key,
                ))
            }
            (Spoil::WrongKey, payload) => Ok((Ok(Granted { payload, info }), Some(Key::random()))),
            (spoil, Payload::Registration(mut registration)) => {
                self.forge(spoil, &mut registration)?;
                Ok((
                    Ok(Granted {
                        payload: Payload::Registration(registration),
                        info,
                    }),
                    key,
                ))
            }
            (_, payload) => Ok((Ok(Granted { payload, info }), key)),
        }
    }

    fn forge(&self, spoil: Spoil, registration: &mut Registration) -> Result<()> {
        registration.text = None;
        for token in [
            &mut registration.signed_invoice,
            &mut registration.signed_qr,
        ] {
            *token = match spoil {
                Spoil::WrongKey => continue,
                Spoil::BadSignature => jwt::with_broken_signature(token),
                Spoil::WrongSigningKey => jwt::resigned(token, self.stranger()?)?,
                Spoil::Mismatch => jwt::of_another_document(token, &self.keys.signer)?,
            }
            .into();
        }
        Ok(())
    }

    /// The portal's clock shows in the `Date` header.
    fn dated(&self, mut response: Response) -> Response {
        if let Ok(date) = HeaderValue::try_from(http_date(self.now())) {
            response.headers_mut().insert(header::DATE, date);
        }
        response
    }
}

/// An answer in the words of whoever asked.
fn dressed(request: &Request, answer: &Answer, key: Option<&Key>, shapes: &Shapes) -> String {
    match request.contract {
        Contract::Nic => render(answer, key, shapes),
        Contract::MasterGst => mastergst::render(answer, shapes),
    }
}

fn half_an_answer(request: &Request) -> String {
    match request.contract {
        Contract::Nic => HALF_AN_ENVELOPE.to_owned(),
        Contract::MasterGst => mastergst::HALF_AN_ANSWER.to_owned(),
    }
}

/// Which document a request is about.
#[derive(Debug, Default)]
struct Subject {
    number: Option<String>,
    /// Its name in the counters, when it is submitted for registration.
    document: Option<String>,
    irn: Option<String>,
}

impl Subject {
    /// Not submitted as others are: it is registered however often it comes, so that no submit of it is blind.
    fn of_corpus(presigned: &Presigned) -> Self {
        Self {
            number: Some(presigned.document.number.clone()),
            document: None,
            irn: Some(presigned.document.irn.clone()),
        }
    }
}

fn half(body: &str) -> String {
    let middle = (0..=body.len() / 2)
        .rev()
        .find(|index| body.is_char_boundary(*index))
        .unwrap_or(0);
    body[..middle].to_owned()
}

fn json_response(body: String) -> Response {
    response(StatusCode::OK, "application/json; charset=utf-8", body)
}

fn status_response(status: StatusCode) -> Response {
    response(
        status,
        "text/plain",
        status.canonical_reason().unwrap_or_default().to_owned(),
    )
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
