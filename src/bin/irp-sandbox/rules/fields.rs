//! The fields of INV-01 version 1.1: name, obligation, type and limits, in the order in which the portal writes them
//! into a signed invoice (NIC, generate-irn page and the published JSON schema).

use super::patterns::{self as is, Pattern};

/// One member of an object.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) kind: Kind,
}

/// What a member's value must be.
pub(crate) enum Kind {
    /// A text of that many characters that matches the pattern.
    Text {
        min: usize,
        max: usize,
        pattern: &'static Pattern,
    },
    /// A whole number.
    Integer { min: i64, max: i64 },
    /// A number with at most that many decimal places; the limits are in units of the last place.
    Decimal { places: u32, min: i64, max: i64 },
    /// An object.
    Block(&'static [Field]),
    /// A list of objects.
    List(&'static [Field]),
}

const fn must(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        required: true,
        kind,
    }
}

const fn may(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        required: false,
        kind,
    }
}

const fn text(min: usize, max: usize) -> Kind {
    Kind::Text {
        min,
        max,
        pattern: &is::TEXT,
    }
}

const fn like(min: usize, max: usize, pattern: &'static Pattern) -> Kind {
    Kind::Text { min, max, pattern }
}

const fn upto(places: u32, max: i64) -> Kind {
    Kind::Decimal {
        places,
        min: 0,
        max,
    }
}

const YES_NO: Kind = like(1, 1, &is::YES_NO);
const DATE: Kind = like(10, 10, &is::DATE);
const STATE: Kind = like(1, 2, &is::STATE);
const PIN: Kind = Kind::Integer {
    min: 100_000,
    max: 999_999,
};
/// 0 … 999999999999.99
const AMOUNT: Kind = upto(2, 99_999_999_999_999);
/// 0 … 99999999999999.99
const TOTAL: Kind = upto(2, 9_999_999_999_999_999);
/// 0 … 999.999
const RATE: Kind = upto(3, 999_999);
/// 0 … 9999999999.999
const QUANTITY: Kind = upto(3, 9_999_999_999_999);
/// 0 … 999999999999.999
const PRICE: Kind = upto(3, 999_999_999_999_999);

/// The whole document.
pub(crate) const INVOICE: &[Field] = &[
    must("Version", like(1, 6, &is::VERSION)),
    must("TranDtls", Kind::Block(TRANSACTION)),
    must("DocDtls", Kind::Block(DOCUMENT)),
    must("SellerDtls", Kind::Block(SELLER)),
    must("BuyerDtls", Kind::Block(BUYER)),
    may("DispDtls", Kind::Block(DISPATCH)),
    may("ShipDtls", Kind::Block(SHIP)),
    must("ItemList", Kind::List(ITEM)),
    must("ValDtls", Kind::Block(VALUES)),
    may("PayDtls", Kind::Block(PAYMENT)),
    may("RefDtls", Kind::Block(REFERENCES)),
    may("AddlDocDtls", Kind::List(ADDITIONAL)),
    may("ExpDtls", Kind::Block(EXPORT)),
    may("EwbDtls", Kind::Block(EWAY_BILL)),
];

const TRANSACTION: &[Field] = &[
    must("TaxSch", like(3, 10, &is::TAX_SCHEME)),
    must("SupTyp", like(3, 10, &is::SUPPLY_TYPE)),
    may("RegRev", YES_NO),
    may("EcmGstin", like(15, 15, &is::GSTIN)),
    may("IgstOnIntra", YES_NO),
];

const DOCUMENT: &[Field] = &[
    must("Typ", like(3, 3, &is::DOCUMENT_TYPE)),
    must("No", like(1, 16, &is::DOCUMENT_NUMBER)),
    must("Dt", DATE),
];

const SELLER: &[Field] = &[
    must("Gstin", like(15, 15, &is::GSTIN)),
    must("LglNm", text(3, 100)),
    may("TrdNm", text(3, 100)),
    must("Addr1", text(1, 100)),
    may("Addr2", text(3, 100)),
    must("Loc", text(3, 50)),
    must("Pin", PIN),
    must("Stcd", STATE),
    may("Ph", like(6, 12, &is::PHONE)),
    may("Em", like(6, 100, &is::EMAIL)),
];

const BUYER: &[Field] = &[
    must("Gstin", like(3, 15, &is::GSTIN_OR_URP)),
    must("LglNm", text(3, 100)),
    may("TrdNm", text(3, 100)),
    must("Pos", STATE),
    must("Addr1", text(1, 100)),
    may("Addr2", text(3, 100)),
    must("Loc", text(3, 100)),
    may("Pin", PIN),
    must("Stcd", STATE),
    may("Ph", like(6, 12, &is::PHONE)),
    may("Em", like(6, 100, &is::EMAIL)),
];

const DISPATCH: &[Field] = &[
    must("Nm", text(3, 100)),
    must("Addr1", text(1, 100)),
    may("Addr2", text(3, 100)),
    must("Loc", text(3, 100)),
    must("Pin", PIN),
    must("Stcd", STATE),
];

const SHIP: &[Field] = &[
    may("Gstin", like(3, 15, &is::GSTIN_OR_URP)),
    must("LglNm", text(3, 100)),
    may("TrdNm", text(3, 100)),
    must("Addr1", text(1, 100)),
    may("Addr2", text(3, 100)),
    must("Loc", text(3, 100)),
    must("Pin", PIN),
    must("Stcd", STATE),
];

const ITEM: &[Field] = &[
    must("SlNo", like(1, 6, &is::SERIAL)),
    may("PrdDesc", text(3, 300)),
    must("IsServc", YES_NO),
    must("HsnCd", like(4, 8, &is::HSN)),
    may("Barcde", text(3, 30)),
    may("Qty", QUANTITY),
    may("FreeQty", QUANTITY),
    may("Unit", like(3, 8, &is::LETTERS)),
    must("UnitPrice", PRICE),
    must("TotAmt", AMOUNT),
    may("Discount", AMOUNT),
    may("PreTaxVal", AMOUNT),
    must("AssAmt", AMOUNT),
    must("GstRt", RATE),
    may("IgstAmt", AMOUNT),
    may("CgstAmt", AMOUNT),
    may("SgstAmt", AMOUNT),
    may("CesRt", RATE),
    may("CesAmt", AMOUNT),
    may("CesNonAdvlAmt", AMOUNT),
    may("StateCesRt", RATE),
    may("StateCesAmt", AMOUNT),
    may("StateCesNonAdvlAmt", AMOUNT),
    may("OthChrg", AMOUNT),
    must("TotItemVal", AMOUNT),
    may("OrdLineRef", text(1, 50)),
    may("OrgCntry", like(2, 2, &is::COUNTRY)),
    may("PrdSlNo", text(1, 20)),
    may("BchDtls", Kind::Block(BATCH)),
    may("AttribDtls", Kind::List(ATTRIBUTE)),
];

const BATCH: &[Field] = &[
    must("Nm", text(3, 20)),
    may("ExpDt", DATE),
    may("WrDt", DATE),
];

const ATTRIBUTE: &[Field] = &[may("Nm", text(1, 100)), may("Val", text(1, 100))];

const VALUES: &[Field] = &[
    must("AssVal", TOTAL),
    may("CgstVal", TOTAL),
    may("SgstVal", TOTAL),
    may("IgstVal", TOTAL),
    may("CesVal", TOTAL),
    may("StCesVal", TOTAL),
    may("Discount", TOTAL),
    may("OthChrg", TOTAL),
    may(
        "RndOffAmt",
        Kind::Decimal {
            places: 2,
            min: -9_999,
            max: 9_999,
        },
    ),
    must("TotInvVal", TOTAL),
    may("TotInvValFc", TOTAL),
];

const PAYMENT: &[Field] = &[
    may("Nm", text(1, 100)),
    may("AccDet", text(1, 18)),
    may("Mode", text(1, 18)),
    may("FinInsBr", text(1, 11)),
    may("PayTerm", text(1, 100)),
    may("PayInstr", text(1, 100)),
    may("CrTrn", text(1, 100)),
    may("DirDr", text(1, 100)),
    may("CrDay", Kind::Integer { min: 0, max: 9_999 }),
    may("PaidAmt", TOTAL),
    may("PaymtDue", TOTAL),
];

const REFERENCES: &[Field] = &[
    may("InvRm", text(3, 100)),
    may(
        "DocPerdDtls",
        Kind::Block(&[must("InvStDt", DATE), must("InvEndDt", DATE)]),
    ),
    may("PrecDocDtls", Kind::List(PRECEDING)),
    may("ContrDtls", Kind::List(CONTRACT)),
];

const PRECEDING: &[Field] = &[
    must("InvNo", like(1, 16, &is::PRECEDING_NUMBER)),
    must("InvDt", DATE),
    may("OthRefNo", text(1, 20)),
];

const CONTRACT: &[Field] = &[
    may("RecAdvRefr", text(1, 20)),
    may("RecAdvDt", DATE),
    may("TendRefr", text(1, 20)),
    may("ContrRefr", text(1, 20)),
    may("ExtRefr", text(1, 20)),
    may("ProjRefr", text(1, 20)),
    may("PORefr", text(1, 16)),
    may("PORefDt", DATE),
];

const ADDITIONAL: &[Field] = &[
    may("Url", text(3, 100)),
    may("Docs", text(3, 1000)),
    may("Info", text(3, 1000)),
];

const EXPORT: &[Field] = &[
    may("ShipBNo", text(1, 20)),
    may("ShipBDt", DATE),
    may("Port", like(2, 10, &is::ALPHANUMERIC)),
    may("RefClm", YES_NO),
    may("ForCur", text(3, 16)),
    may("CntCode", like(2, 2, &is::COUNTRY)),
    may("ExpDuty", AMOUNT),
];

/// The e-way-bill part of an invoice.
pub(crate) const EWAY_BILL: &[Field] = &[
    may("TransId", like(15, 15, &is::GSTIN)),
    may("TransName", text(3, 100)),
    may("TransMode", like(1, 1, &is::TRANSPORT_MODE)),
    must("Distance", Kind::Integer { min: 0, max: 4_000 }),
    may("TransDocNo", like(1, 15, &is::TRANSPORT_DOCUMENT)),
    may("TransDocDt", DATE),
    may("VehNo", like(4, 20, &is::ALPHANUMERIC)),
    may("VehType", like(1, 1, &is::VEHICLE_TYPE)),
];

/// The payload of "generate e-way bill by IRN" (NIC, generate EWB by IRN page).
pub(crate) const EWAY_BILL_BY_IRN: &[Field] = &[
    must("Irn", like(64, 64, &is::IRN)),
    may("TransId", like(15, 15, &is::GSTIN)),
    may("TransName", text(3, 100)),
    may("TransMode", like(1, 1, &is::TRANSPORT_MODE)),
    must("Distance", Kind::Integer { min: 0, max: 4_000 }),
    may("TransDocNo", like(1, 15, &is::TRANSPORT_DOCUMENT)),
    may("TransDocDt", DATE),
    may("VehNo", like(4, 20, &is::ALPHANUMERIC)),
    may("VehType", like(1, 1, &is::VEHICLE_TYPE)),
    may("ExpShipDtls", Kind::Block(EXPORT_SHIP)),
    may("DispDtls", Kind::Block(DISPATCH)),
];

const EXPORT_SHIP: &[Field] = &[
    may("Gstin", like(3, 15, &is::GSTIN_OR_URP)),
    must("Addr1", text(1, 100)),
    may("Addr2", text(3, 100)),
    must("Loc", text(3, 100)),
    must("Pin", PIN),
    must("Stcd", STATE),
];

/// The payload of cancel (NIC, cancel-irn page).
pub(crate) const CANCEL: &[Field] = &[
    must("Irn", like(64, 64, &is::IRN)),
    must("CnlRsn", like(1, 1, &is::CANCEL_REASON)),
    must("CnlRem", text(1, 100)),
];
