//! The corpus: documents are judged and signed at start, as `generate` does it, and answered from there afterwards.

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::check_form;
use crate::answer::{Answer, Payload, Refused, Registration};
use crate::corpus::{Corpus, Presigned};
use crate::documents::Documents;
use crate::envelope::registration_text;
use crate::node::Node;
use crate::rules::fields::INVOICE;
use crate::rules::invoice::Invoice;
use crate::sandbox::Sandbox;

impl Sandbox {
    /// Judges and signs every line of `file` (NDJSON), on all cores.
    ///
    /// # Errors
    /// Names the line of a document that the portal would refuse, that asks for an e-way bill, or that is there twice.
    pub(crate) fn presign(&self, file: &Path) -> Result<Corpus> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let lines: Vec<(usize, &[u8])> = text
            .split(|byte| *byte == b'\n')
            .enumerate()
            .filter(|(_, line)| !line.is_empty())
            .map(|(at, line)| (at + 1, line))
            .collect();
        ensure!(!lines.is_empty(), "{} holds no document", file.display());
        let mut corpus = Corpus::default();
        for (number, presigned) in self.presign_all(&lines)? {
            let about = || format!("{}, line {number}", file.display());
            let presigned = presigned.with_context(about)?;
            if !corpus.add(presigned) {
                bail!("{}: this document is there twice", about());
            }
        }
        Ok(corpus)
    }

    /// Every line's document, in any order, with its line number.
    fn presign_all(&self, lines: &[(usize, &[u8])]) -> Result<Vec<(usize, Result<Presigned>)>> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let share = lines.len().div_ceil(cores);
        thread::scope(|scope| {
            let working: Vec<_> = lines
                .chunks(share)
                .map(|lines| {
                    let sign = |(number, line): &(usize, &[u8])| (*number, self.presigned(line));
                    scope.spawn(move || lines.iter().map(sign).collect::<Vec<_>>())
                })
                .collect();
            let mut all = Vec::with_capacity(lines.len());
            for worker in working {
                all.extend(worker.join().map_err(|_| anyhow!("signing failed"))?);
            }
            Ok(all)
        })
    }

    fn presigned(&self, plain: &[u8]) -> Result<Presigned> {
        let node = Node::parse(plain).context("it is not valid JSON")?;
        // Such a bill is made anew for each registration.
        ensure!(node.get("EwbDtls").is_none(), "a corpus holds no EwbDtls");
        check_form(&node, INVOICE).map_err(|refused| said(&refused))?;
        let invoice = Invoice::read(&node);
        let seller = invoice.seller.gstin.clone();
        self.check_rules(&invoice, &seller)
            .map_err(|refused| said(&refused))?;
        let name = self.name_of(&node).context("it has no document number")?;
        let document = self.sign(&seller, plain, &node, &invoice, self.irn_of(&invoice));
        let registration = document.registration();
        let text = registration_text(&registration);
        Ok(Presigned {
            document,
            name,
            registration: Registration {
                text: Some(text.into()),
                ..registration
            },
        })
    }

    /// Registers a document of the corpus, again if need be.
    pub(super) fn repeat(&self, presigned: &Presigned) -> Answer {
        let irn = &presigned.document.irn;
        {
            let mut documents = self.documents();
            if !is_ours_or_free(&documents, presigned) {
                super::generate::refuse_taken(&documents, irn)?;
            }
            documents.put(&presigned.document, self.now());
        }
        self.stats
            .repeated(&presigned.document.seller, &presigned.name);
        Ok(Payload::Registration(Box::new(presigned.registration.clone())).into())
    }
}

/// Whether nobody else has registered this IRN, neither here with other bytes nor elsewhere.
fn is_ours_or_free(documents: &Documents, presigned: &Presigned) -> bool {
    let irn = &presigned.document.irn;
    let here = documents.find(irn);
    documents.registrar_elsewhere(irn).is_none()
        && here.is_none_or(|there| there.ack_no == presigned.document.ack_no)
}

fn said(refused: &Refused) -> anyhow::Error {
    let errors = refused
        .errors
        .iter()
        .map(|error| format!("{} {}", error.code, error.message));
    anyhow!(
        "the portal would refuse it: {}",
        errors.collect::<Vec<_>>().join("; ")
    )
}

/// What `exchange` asks for before it reads a body's JSON.
impl Sandbox {
    /// The document of the corpus that this is.
    pub(crate) fn in_corpus(&self, plain: &[u8], seller: &str) -> Option<Arc<Presigned>> {
        self.corpus.find(plain, seller)
    }
}
