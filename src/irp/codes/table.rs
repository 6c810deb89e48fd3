//! The table itself: every code the portal is known to answer with, by what it obliges us to do.
//!
//! Sources: NIC's error-code lists (invoice, vital, e-way bill), NIC's notes on the codes seen most, and answers
//! observed in the field. The wording is ours: the portal's own texts vary and are never matched, except where
//! `codes` says so.

use super::{Class, Code};

const fn session(code: &'static str, meaning: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::Session,
        remedy: "nothing to do: the worker logs in again once; if it comes back, check that GSTIN, user and client belong together",
    }
}
const fn account(code: &'static str, meaning: &'static str, remedy: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::Account,
        remedy,
    }
}
const fn session_of(code: &'static str, meaning: &'static str, remedy: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::Session,
        remedy,
    }
}
const fn done(code: &'static str, meaning: &'static str, remedy: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::Done,
        remedy,
    }
}
const fn conflict(code: &'static str, meaning: &'static str, remedy: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::Conflict,
        remedy,
    }
}
const fn stale(code: &'static str, meaning: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::StaleGstin,
        remedy: "nothing to do at first: the portal's copy is synchronised once; if it stays so, correct the GSTIN in the ERP",
    }
}
const fn absent(code: &'static str, meaning: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::Absent,
        remedy: "nothing to do: an answer to a look-up, not a fault",
    }
}
const fn too_old(code: &'static str, meaning: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::TooOld,
        remedy: "the taxpayer fetches the signed data from the GST common portal, which keeps it for six months",
    }
}
const fn document(code: &'static str, meaning: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::Document,
        remedy: "correct the document in the ERP and submit it again",
    }
}
const fn late(code: &'static str, meaning: &'static str, remedy: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::Document,
        remedy,
    }
}
const fn passing(code: &'static str, meaning: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::Passing,
        remedy: "nothing to do: the worker tries again later",
    }
}
const fn passing_by(code: &'static str, meaning: &'static str, remedy: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::Passing,
        remedy,
    }
}
const fn uncertain(code: &'static str, meaning: &'static str) -> Code {
    Code {
        code,
        meaning,
        class: Class::Uncertain,
        remedy: "nothing to do: the worker looks before it sends again; if it lasts, ask the portal's help desk",
    }
}

const LOGIN: &str = "the taxpayer checks user name and password of the API user at the portal; load the right ones into the credentials file";
const PAIR: &str =
    "the operator checks client id and secret, and that this API user was created for this client";
const KEY: &str = "the operator checks irp.public_key_file: sandbox and production have different keys, and they rotate";
const BODY: &str = "the request's body was lost or rewritten on the way: the operator checks the gateway and the proxies between worker and portal, and else reports it";
const HEADER: &str =
    "a header was lost on the way: the operator checks irp.header_style and the proxies";
const ENABLE: &str = "the taxpayer has the GSTIN enabled for e-invoicing, or its registration restored, at the portal";
const UNBLOCK: &str = "the taxpayer asks the portal to unfreeze or unblock the account";
const PROVIDER: &str = "the operator checks client id, client secret, email and ip_address, and that the provider knows them";
const DIRECT: &str = "the operator completes the direct integration at the portal, registered static IP addresses included";

/// Every known code. One row each; the groups follow what the worker must do.
#[rustfmt::skip]
pub(super) const TABLE: &[Code] = &[
    // The session is stale.
    session("1005", "the token is invalid or has expired"),
    session("1015", "the GSTIN does not belong to this user or token"),
    session_of("1020", "the portal could not decrypt the request: another session key, or the wrong key for the login", "of a login the operator checks irp.public_key_file: sandbox and production have different keys, and they rotate; of other calls there is nothing to do, the worker logs in again once"),
    session("106", "the token has expired (e-way bill system)"),
    session("238", "the token is invalid (e-way bill system)"),
    session_of("401", "HTTP 401, or a login that brought no token: refused without a readable reason", "the operator checks client id and secret, irp.extra_headers and what else the service provider wants, if a new login does not help"),

    // The credentials, the client or the account are refused.
    account("1002", "invalid login credentials", LOGIN),
    account("1004", "the GSTIN header is missing", HEADER),
    account("1006", "the user name header is missing", HEADER),
    account("1007", "the login's payload was wrongly formed", KEY),
    account("1008", "invalid login credentials", LOGIN),
    account("1010", "invalid client id or client secret", PAIR),
    account("1011", "the client id header is missing", HEADER),
    account("1012", "the client secret header is missing", HEADER),
    account("1013", "the portal could not decrypt the password", KEY),
    account("1014", "the user is inactive, or its GSTIN is not enabled for e-invoicing", ENABLE),
    account("1016", "the portal could not decrypt the app key", KEY),
    account("1017", "the user does not exist", LOGIN),
    account("1018", "the user was created for another client", PAIR),
    account("1019", "incorrect password", LOGIN),
    account("5003", "the request arrived without data", BODY),
    account("3000", "invalid login credentials", LOGIN),
    account("3002", "invalid login credentials", LOGIN),
    account("3013", "the GSTIN's registration is cancelled", ENABLE),
    account("3014", "this GSTIN is not allowed", ENABLE),
    account("3015", "the GSTIN is deregistered", ENABLE),
    account("3016", "the GSTIN is inactive", ENABLE),
    account("3017", "the provisional id is not activated", ENABLE),
    account("3025", "the account has been frozen", UNBLOCK),
    account("3026", "e-invoicing is not enabled for this GSTIN", ENABLE),
    account("3031", "invalid user name", LOGIN),
    account("3032", "an enrolled transporter may not do this", ENABLE),
    account("3033", "the account is frozen", UNBLOCK),
    account("3034", "the account is cancelled", UNBLOCK),
    account("3035", "the account is suspended because the GSTIN is inactive", ENABLE),
    account("3036", "the account is inactive", UNBLOCK),
    account("3037", "a common-enrolled transporter may not do this", ENABLE),
    account("3045", "the GSTIN is not registered at this portal", ENABLE),
    account("3046", "the GSTIN is not enabled on production", ENABLE),
    account("3053", "unauthorised access", DIRECT),
    account("3059", "no client id was generated for this PAN, or the IP address is not listed", DIRECT),
    account("3064", "the GSTIN is deregistered", ENABLE),
    account("3065", "this feature may not be used", DIRECT),
    account("3068", "there is no API user", LOGIN),
    account("3069", "not directly integrated", DIRECT),
    account("3070", "not enabled by the direct integrator", DIRECT),
    account("3072", "cannot be enabled", DIRECT),
    account("3080", "cannot be enabled", DIRECT),
    account("403", "the service provider does not admit this client or this address", PROVIDER),
    account("110", "invalid client id or client secret (e-way bill system)", PAIR),
    account("111", "the GSTIN is not registered with this service provider (e-way bill system)", PAIR),

    // Done before.
    done("2150", "the document is registered already", "nothing to do: the worker fetches what is registered and compares it"),
    done("4002", "an e-way bill was issued for this IRN already", "nothing to do: the worker fetches the bill"),
    done("4026", "an e-way bill was issued for this document number already", "nothing to do: the worker fetches the bill"),
    done("9999", "the invoice is not active: it was cancelled before", "nothing to do: what was asked for is done"),

    // The number is burnt.
    conflict("2278", "this document number was registered and cancelled; it can never be used again", "issue the invoice under a new number in the ERP"),
    conflict("2295", "this document is registered at another portal", "fetch the registration from the portal that made it, or issue the invoice under a new number"),

    // The portal's copy of a GSTIN is old.
    stale("3028", "a GSTIN of the document is not known to the portal"),
    stale("3029", "a GSTIN of the document is inactive or cancelled in the portal's copy"),

    // Answers to a look-up.
    absent("2148", "no such IRN is registered at this portal"),
    absent("2154", "no registration was found for these document details"),
    absent("3001", "the requested data is not available"),
    absent("3005", "no data was found"),
    absent("3011", "no data was found"),
    absent("4003", "no IRN data is available for the e-way bill"),
    absent("4005", "no e-way bill was found"),
    absent("4007", "the e-way bill is not available"),
    too_old("2283", "registered, but too long ago for the portal to hand out the signed data again"),

    // It will pass, and nothing was done.
    passing_by("2140", "the portal failed while it validated the document: mostly it has a payload that the portal's schema does not know", "where it ends `rejected`, correct the document in the ERP: a member is missing, misspelt or of the wrong type; the first time the worker looks, and sends it once more"),
    passing("2146", "the portal could not create the IRN now"),
    passing("3019", "the portal could not save its data"),
    passing("3021", "the portal could not save its data"),
    passing("3058", "the portal could not save its data"),
    passing_by("429", "the service provider's quota is used up", "the operator buys credits of the service provider, or lowers limits.per_gstin and limits.total; the jobs wait meanwhile"),
    passing("4001", "the portal failed while it created the e-way bill"),
    passing("4004", "the portal failed while it fetched the e-way bill"),

    // It will pass, but the portal may have acted.
    uncertain("2139", "the portal failed while it created the invoice"),
    uncertain("2141", "the portal failed while it cancelled the invoice"),
    uncertain("2147", "the portal could not sign the invoice now"),
    uncertain("3020", "internal error of the portal"),
    uncertain("3043", "something went wrong at the portal"),
    uncertain("5001", "application error of the portal"),
    uncertain("SYS_5001", "application error of the portal"),
    uncertain("GSPGSTDOWN", "the service provider says that the portal is down"),
    uncertain("GSPERR300", "the service provider could not reach the portal"),
    uncertain("GEN5008", "the service provider reports an error of the portal"),
    uncertain("500", "the service provider reports an error of its own"),
    uncertain("502", "the service provider could not reach the portal"),
    uncertain("503", "the service provider is not available"),
    uncertain("504", "the portal did not answer the service provider in time"),
    uncertain("301", "the service provider reports an outage"),
    uncertain("302", "the service provider reports an outage"),

    // The document is refused.
    document("2142", "the request's parameters are incomplete"),
    late("2143", "the invoice does not belong to this GSTIN: its seller is somebody else", "the ERP sends the job under the seller's own GSTIN"),
    document("2144", "the document date is not in the form dd/mm/yyyy"),
    document("2145", "the IRN is not valid"),
    document("2155", "the supplier's GSTIN is missing"),
    document("2156", "the from-date has a wrong format"),
    document("2157", "the to-date has a wrong format"),
    document("2159", "the reverse-charge field has an invalid value"),
    document("2161", "the document type is not valid"),
    document("2162", "reverse charge applies to B2B and SEZ supplies only"),
    document("2163", "the document date lies in the future"),
    document("2169", "only the supplier or the e-commerce operator may register this invoice"),
    document("2171", "the recipient of a deemed export cannot be unregistered (URP)"),
    document("2172", "IGST is not applicable within a state, only CGST and SGST"),
    document("2173", "there are too many items"),
    document("2174", "CGST and SGST are not applicable between states, only IGST"),
    document("2176", "an HSN code is not valid"),
    document("2177", "an item's unit code is not valid"),
    document("2178", "a PIN code does not belong to the state"),
    document("2179", "a tax rate is not valid"),
    document("2180", "CGST and SGST are not allowed for exports"),
    document("2181", "an export cannot be a supply within a state"),
    document("2182", "the items' taxable values do not add up to the total taxable value"),
    document("2183", "the items' SGST does not add up to the total"),
    document("2184", "the items' CGST does not add up to the total"),
    document("2185", "the items' IGST does not add up to the total"),
    document("2186", "the items' cess does not add up to the total"),
    document("2187", "the items' state cess does not add up to the total"),
    document("2188", "the items' non-advalorem cess does not add up to the total"),
    document("2189", "the total invoice value is wrong"),
    document("2190", "the recipient's taxpayer type does not fit this kind of supply"),
    document("2191", "a credit or debit note must name the original invoice"),
    document("2192", "an item's total amount is not quantity times unit price"),
    document("2193", "an item's assessable amount is not total amount less discount"),
    document("2194", "an item's total value is wrong"),
    document("2195", "the e-commerce GSTIN is not of type TCS"),
    document("2196", "an unregistered recipient (URP) is not allowed for this category"),
    document("2197", "the e-commerce GSTIN is missing"),
    document("2198", "ship-to, dispatch or export details do not fit the kind of supply"),
    document("2199", "an HSN code is in error"),
    document("2200", "the state code of the dispatch or ship-to details is not valid"),
    document("2201", "the port code is not valid"),
    document("2202", "the country code is not valid"),
    document("2203", "the foreign currency code is not valid"),
    document("2204", "ship-to, dispatch or export details do not fit the kind of supply"),
    document("2205", "ship-to, dispatch or export details do not fit the kind of supply"),
    document("2206", "ship-to, dispatch or export details do not fit the kind of supply"),
    document("2207", "ship-to, dispatch or export details do not fit the kind of supply"),
    document("2208", "ship-to, dispatch or export details do not fit the kind of supply"),
    document("2209", "ship-to, dispatch or export details do not fit the kind of supply"),
    document("2210", "an invoice must not name an original invoice"),
    document("2211", "supplier and recipient are the same GSTIN"),
    document("2212", "the recipient cannot be unregistered (URP) for this kind of supply"),
    document("2213", "the supplier cannot be unregistered (URP)"),
    document("2214", "a party's GSTIN is missing"),
    document("2215", "a party's PIN code or state is missing"),
    document("2216", "a party's trade name is missing"),
    document("2217", "a party's location is missing"),
    document("2218", "a date lies in the future"),
    document("2219", "the from-date is later than the to-date"),
    document("2220", "the total discount is not less than the total invoice value"),
    document("2222", "a state cess rate is wrong"),
    document("2223", "a state cess rate is missing"),
    document("2224", "an e-commerce GSTIN must not be given here"),
    document("2225", "a date in the document details has a wrong format"),
    late("2226", "this GSTIN is not authorised to see the registration", "the ERP asks under the GSTIN that registered the document"),
    document("2227", "SGST and CGST of an item differ"),
    document("2228", "there are no items"),
    document("2229", "the place of supply must be 96 for this kind of supply"),
    late("2230", "the IRN cannot be cancelled while its e-way bill is active", "cancel the e-way bill first, then the IRN"),
    late("2231", "the supplier is in a special economic zone and cannot register this", "the taxpayer checks the kind of supply and its own registration"),
    document("2232", "the place of supply must be 96 for this kind of supply"),
    document("2233", "two items have the same serial number"),
    document("2234", "CGST and SGST of an item are wrong"),
    document("2235", "IGST of an item is wrong"),
    document("2236", "the ship-to address of an export must be the place or port in India"),
    document("2237", "the recipient is in a special economic zone: CGST and SGST are not due on an item"),
    document("2238", "an item's quantity is missing"),
    document("2239", "an item's unit is missing"),
    document("2240", "an item's GST rate is not valid"),
    document("2241", "CGST and SGST are required within a state"),
    document("2242", "the place of supply must not be 96 for this kind of supply"),
    document("2243", "the place of supply is not a valid state"),
    document("2244", "the recipient's PIN code is missing"),
    document("2245", "the ship-to state differs from the place of supply"),
    document("2246", "the recipient is in a special economic zone, which does not fit this kind of supply"),
    document("2247", "the recipient is not in a special economic zone, as this kind of supply needs"),
    document("2248", "the recipient of an export must be written URP"),
    document("2249", "goods and services are mixed where the place of supply is the supplier's state"),
    document("2251", "an e-way bill needs an item of goods"),
    document("2252", "credit notes, debit notes and services get no e-way bill"),
    document("2253", "vehicle number and vehicle type are missing, which transport by road needs"),
    document("2254", "number and date of the transport document are missing, which transport other than by road needs"),
    document("2255", "the payload is empty"),
    document("2256", "a signature in the request is not valid"),
    document("2257", "the credentials are not valid for this IRN"),
    document("2258", "the supplier's state code does not match its GSTIN"),
    document("2259", "the supplier's state code is not valid"),
    document("2260", "the recipient's state code is not valid"),
    document("2261", "the recipient's state code must be 96"),
    document("2262", "IGST within a state requires the place of supply to be the supplier's state"),
    document("2263", "the flag for IGST within a state is not valid"),
    document("2264", "the items' other charges do not add up to the total"),
    document("2265", "the recipient's state code does not match its GSTIN"),
    document("2266", "an item's cess amount is wrong"),
    document("2267", "an item's state cess amount is wrong"),
    late("2270", "the 24 hours in which an IRN can be cancelled are over", "issue a credit note in the ERP instead"),
    document("2294", "IGST within a state requires reverse charge"),
    late("2300", "the supplier's GSTIN is neither a regular taxpayer nor an SEZ developer", "the taxpayer checks its registration"),
    late("2305", "the document is older than the 30 days in which it may be reported", "too late to register: the taxpayer issues a new document or asks its adviser"),
    document("2323", "the ship-to GSTIN is missing"),
    document("2324", "the ship-to GSTIN is not valid"),
    document("2325", "the ship-to GSTIN does not fit its state"),
    document("3030", "a GSTIN is not valid"),
    document("3039", "the ship-to GSTIN is not valid"),
    document("3042", "the from or to PIN code is not valid"),
    document("3052", "the transporter id is cancelled or not valid"),
    document("3066", "the state has no such PIN code"),
    document("3074", "a party's registration was cancelled before the document date"),
    document("3075", "a party's registration was cancelled before the document date"),
    document("3076", "a party was inactive on the document date"),
    document("3077", "a party was inactive on the document date"),
    document("3078", "the document date lies outside a party's registration"),
    document("3079", "the document date lies before a party's registration"),
    late("3092", "the taxpayer has not declared its turnover at the portal", "the taxpayer declares it at the portal"),
    late("3093", "the taxpayer has not declared its turnover at the portal", "the taxpayer declares it at the portal"),
    document("413", "HTTP 413: the portal, or a gateway before it, takes no request of this size"),
    document("5002", "a field does not fit the schema; with a text that begins \"Application error\" the portal itself failed"),

    // The e-way bill. Beside a registration they come as additional information: the IRN stands.
    late("4000", "the IRN is not active: it was cancelled, and no e-way bill can be made for it", "register the invoice under a new number in the ERP, and ask for the e-way bill of that one"),
    document("4006", "a parameter of the e-way bill is empty"),
    document("4008", "the e-way bill number is not valid"),
    document("4009", "an e-way bill needs at least one item that is goods"),
    document("4010", "no e-way bill can be made for credit notes, debit notes or services"),
    document("4011", "the vehicle number is missing for transport by road"),
    document("4012", "the transport document number is missing for rail or air"),
    document("4013", "the distance is too high or too low"),
    document("4014", "the vehicle number is not valid"),
    late("4015", "the user is blocked from e-way bills", "the taxpayer files its returns, or asks the e-way bill portal to unblock it"),
    document("4016", "the transport document is dated in the future"),
    document("4017", "a date has a wrong format"),
    document("4018", "the transporter id is not valid"),
    document("4019", "the transporter id is missing for part A"),
    document("4020", "the vehicle type is not valid"),
    document("4021", "the transport document is older than the invoice"),
    document("4022", "the vehicle type is missing for transport by road"),
    document("4023", "the transport document date is missing"),
    document("4024", "over-dimensional cargo goes by road or ship only"),
    late("4025", "the e-way bill user id is not valid", "the taxpayer checks its registration at the e-way bill portal"),
    document("4027", "the transporter id is mandatory for part A"),
    document("4028", "the mode of transport is missing"),
    document("4029", "the distance cannot be 0 between the same PIN codes"),
    document("4030", "the portal does not know the distance between the PIN codes"),
    document("4031", "the ship-to state of an export must be 96"),
    document("4032", "the ship-to PIN code of an export must be 999999"),
    document("4033", "the dispatch state does not fit an export"),
    document("4034", "the dispatch PIN code does not fit an export"),
    document("4035", "the ship-to details do not fit an export"),
    document("4036", "the dispatch details do not fit an export"),
    late("4037", "this GSTIN is not authorised for the e-way bill", "the ERP asks under the GSTIN that registered the document"),
    document("4038", "the distance is too high"),
    document("4039", "the vehicle type cannot be regular for a ship"),
    document("4040", "transport by ship needs a vehicle number or a document number"),
    document("4074", "the ship-to GSTIN is not valid for the e-way bill"),
];
