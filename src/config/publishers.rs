//! `[publishers]`: which users of the broker may have jobs done, for which GSTINs.
//!
//! The rule: without the section everybody may; with it nobody may who is not in it.

use std::collections::BTreeMap;

use super::section::Section;
use super::setting::quoted;
use super::tree::{Item, Value};
use crate::gstin::Gstin;

/// `[publishers]`: by the name of the broker's user.
#[derive(Clone, Debug, Default)]
pub struct PublishersConfig(BTreeMap<String, PublisherConfig>);

/// `[publishers.NAME]`
#[derive(Clone, Debug, Default)]
pub struct PublisherConfig {
    /// Globs; it may use the credentials of a GSTIN that matches one of them.
    pub gstins: Vec<glob::Pattern>,
    /// Globs that a reply queue must match beside `replies.allow`; none: that suffices.
    pub replies: Option<Vec<glob::Pattern>>,
    /// Its messages are the jobs of others, like dead letters that are replayed: whose, they say themselves.
    pub forwards: bool,
}

impl PublishersConfig {
    /// Whether everybody may use every GSTIN.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is said of a user.
    pub fn get(&self, user: &str) -> Option<&PublisherConfig> {
        self.0.get(user)
    }
}

impl FromIterator<(String, PublisherConfig)> for PublishersConfig {
    fn from_iter<T: IntoIterator<Item = (String, PublisherConfig)>>(publishers: T) -> Self {
        Self(publishers.into_iter().collect())
    }
}

impl PublisherConfig {
    /// Whether it may use the credentials of this GSTIN.
    pub fn owns(&self, gstin: &Gstin) -> bool {
        self.gstins.iter().any(|glob| glob.matches(gstin.as_str()))
    }

    /// Whether results of its jobs may go to this queue.
    pub fn may_read(&self, queue: &str) -> bool {
        let globs = self.replies.as_ref();
        globs.is_none_or(|globs| globs.iter().any(|glob| glob.matches(queue)))
    }
}

const REMEDY: &str = "write [publishers.NAME] with the name of one of the broker's users, and under it gstins = [\"29*\"]";
const GSTINS_REMEDY: &str =
    "write a list of GSTINs or globs, for example [\"29AAGCE4783K1Z1\", \"27*\"]";
const REPLIES_REMEDY: &str = "write a list of globs, for example [\"erp.south.*\"]";

/// Takes the section out of the file's table.
pub(super) fn publishers(root: &mut Section<'_>) -> PublishersConfig {
    let entries = root.entries("publishers", REMEDY);
    let read = |(name, item): (String, Item)| {
        let key = format!("publishers.{name}");
        // Of what is no table, that is the only fault.
        let read = match &item.value {
            Value::Table(_) | Value::Variable(_) => publisher,
            Value::Text(_)
            | Value::Integer(_)
            | Value::Boolean(_)
            | Value::List(_)
            | Value::Other(_) => |_: &mut Section<'_>| PublisherConfig::default(),
        };
        let publisher = root.nested("publishers", &key, &item, read);
        (name, publisher)
    };
    entries.into_iter().map(read).collect()
}

fn publisher(s: &mut Section<'_>) -> PublisherConfig {
    let forwards = s.or("forwards", false);
    let listed = s.items("gstins", GSTINS_REMEDY);
    let is_listed = listed.as_ref().is_some_and(|listed| !listed.is_empty());
    if is_listed && forwards {
        let problem = "is of no use with `forwards`: a job's own publisher must own the GSTIN";
        s.fault("gstins", problem, "remove one of the two");
    }
    if !is_listed && !forwards && s.is_needed("gstins") {
        let problem = "is missing or empty: this user could have no job done";
        s.fault("gstins", problem, GSTINS_REMEDY);
    }
    let globs = |listed: Vec<(String, Item)>| {
        let globs = listed
            .iter()
            .filter_map(|(key, item)| glob_of_gstins(s, key, item));
        globs.collect()
    };
    let gstins = listed.map(globs).unwrap_or_default();
    let replies = s.items("replies", REPLIES_REMEDY);
    PublisherConfig {
        gstins,
        replies: replies.map(|listed| {
            let globs = listed.iter().filter_map(|(key, item)| s.one(key, item));
            globs.collect()
        }),
        forwards,
    }
}

/// Without a wildcard it must be a GSTIN: a typing mistake would keep its jobs out.
fn glob_of_gstins(s: &Section<'_>, key: &str, item: &Item) -> Option<glob::Pattern> {
    let glob: glob::Pattern = s.one(key, item)?;
    let text = glob.as_str();
    if !text.contains(['*', '?', '[']) && text.parse::<Gstin>().is_err() {
        let problem = format!("{} is no GSTIN", quoted(text));
        s.fault_at(&item.source, key, &problem, GSTINS_REMEDY);
    }
    Some(glob)
}
