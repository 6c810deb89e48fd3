//! Invoices of a given size by so many sellers, and the credentials of those sellers. Made up, valid, the same in
//! every run.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use irn_worker::gstin::Gstin;

/// No more documents than this: a few thousand are enough to be sent again and again.
const MOST: usize = 4_000;
/// No more bytes than this, which the portal holds three times over.
const MOST_BYTES: usize = 80_000_000;
/// No fewer documents than jobs of the largest of them: none is to be sent again while it waits on the ladder, where jobs of
/// slow calls go that make way for others.
const FEWEST: usize = 1_000;

/// Documents in the order in which they are published, again and again.
pub(crate) struct Corpus {
    documents: Vec<String>,
    /// The documents, one a line, as the portal takes them.
    pub(crate) file: PathBuf,
    /// Who may log in.
    pub(crate) credentials: PathBuf,
}

impl Corpus {
    /// Makes documents of about `size` bytes by `sellers` sellers in turn and writes them to `dir`.
    pub(crate) fn make(dir: &Path, size: usize, sellers: usize) -> Result<Self> {
        let count = (MOST_BYTES / size).clamp(FEWEST, MOST).max(sellers);
        let gstins = (0..sellers).map(gstin).collect::<Result<Vec<_>>>()?;
        let documents: Vec<String> = (0..count)
            .map(|number| document(&gstins[number % sellers], number, size))
            .collect();
        let file = dir.join(format!("corpus-{size}-{sellers}.ndjson"));
        fs::write(&file, documents.join("\n"))?;
        let credentials = dir.join(format!("credentials-{sellers}.toml"));
        fs::write(&credentials, credentials_of(&gstins)?)?;
        fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            documents,
            file,
            credentials,
        })
    }

    /// The document of job `number`.
    pub(crate) fn document(&self, number: usize) -> &[u8] {
        self.documents[number % self.documents.len()].as_bytes()
    }

    /// How long a document is, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.documents[0].len()
    }
}

/// The `number`th seller, in Karnataka.
fn gstin(number: usize) -> Result<String> {
    let stem = format!("29AABCT{number:04}M1Z");
    let mut candidates = ('0'..='9')
        .chain('A'..='Z')
        .map(|digit| format!("{stem}{digit}"));
    candidates
        .find(|text| {
            text.parse::<Gstin>()
                .is_ok_and(|gstin| gstin.has_valid_check_digit())
        })
        .context("every number has a check digit")
}

fn credentials_of(gstins: &[String]) -> Result<String> {
    let mut text = "[[client]]\nname = \"bench\"\nclient_id = \"bench-client\"\nclient_secret = \"bench-secret\"\n"
        .to_owned();
    for gstin in gstins {
        write!(
            text,
            "\n[[taxpayer]]\ngstin = \"{gstin}\"\nclient = \"bench\"\nusername = \"API_{gstin}\"\npassword = \"Pw-{gstin}!\"\n"
        )?;
    }
    Ok(text)
}

/// An inter-state invoice of as many lines as come nearest to `size` bytes, at least one and at most the thousand
/// that the schema allows.
fn document(seller: &str, number: usize, size: usize) -> String {
    let (head, tail) = (head(seller, number), totals(100));
    let frame = head.len() + tail.len();
    let each = line(100).len() + 1;
    let lines = ((size.saturating_sub(frame) + each / 2) / each).clamp(1, 1_000);
    let items: Vec<String> = (1..=lines).map(line).collect();
    format!("{head}{}{}", items.join(","), totals(lines))
}

fn head(seller: &str, number: usize) -> String {
    format!(
        concat!(
            r#"{{"Version":"1.1","TranDtls":{{"TaxSch":"GST","SupTyp":"B2B","RegRev":"N","IgstOnIntra":"N"}},"#,
            r#""DocDtls":{{"Typ":"INV","No":"BN/{}","Dt":"05/09/2025"}},"#,
            r#""SellerDtls":{{"Gstin":"{}","LglNm":"Test Fabrics Private Limited","TrdNm":"Test Fabrics","#,
            r#""Addr1":"Plot 14, Test Industrial Area","Addr2":"Second Stage","Loc":"TESTVILLE","Pin":560058,"Stcd":"29"}},"#,
            r#""BuyerDtls":{{"Gstin":"27AAPFU0939F1ZV","LglNm":"Sample Traders Private Limited","Pos":"27","#,
            r#""Addr1":"Gala 7, Demo Market","Loc":"SAMPLETOWN","Pin":411014,"Stcd":"27"}},"ItemList":["#
        ),
        number + 1,
        seller
    )
}

/// One line as a complete ERP writes it.
fn line(serial: usize) -> String {
    format!(
        concat!(
            r#"{{"SlNo":"{}","PrdDesc":"Fabric storage rack, powder coated, four shelves, 1800 x 900 x 450 mm","#,
            r#""IsServc":"N","HsnCd":"940320","Barcde":"8901234567890","Qty":12,"FreeQty":0,"Unit":"NOS","#,
            r#""UnitPrice":1250.25,"TotAmt":15003,"Discount":3,"PreTaxVal":0,"AssAmt":15000,"GstRt":18,"#,
            r#""IgstAmt":2700,"CgstAmt":0,"SgstAmt":0,"CesRt":0,"CesAmt":0,"CesNonAdvlAmt":0,"StateCesRt":0,"#,
            r#""StateCesAmt":0,"StateCesNonAdvlAmt":0,"OthChrg":0,"TotItemVal":17700,"OrdLineRef":"10","#,
            r#""OrgCntry":"IN","PrdSlNo":"FS-1800-{}","BchDtls":{{"Nm":"LOT-2025-08","ExpDt":"31/12/2030"}}}}"#
        ),
        serial, serial
    )
}

fn totals(lines: usize) -> String {
    format!(
        concat!(
            r#"],"ValDtls":{{"AssVal":{},"CgstVal":0,"SgstVal":0,"IgstVal":{},"CesVal":0,"StCesVal":0,"#,
            r#""Discount":0,"OthChrg":0,"RndOffAmt":0,"TotInvVal":{}}}}}"#
        ),
        15_000 * lines,
        2_700 * lines,
        17_700 * lines
    )
}
