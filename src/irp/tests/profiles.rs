//! The portal's own contract behind gateways: paths, header names and the client pair follow the route's settings.

use super::*;
use crate::config::{ClientPair, IrpConfig, PathsConfig};

/// The requests of a login, a submit, a look-up and a sync over these settings.
async fn sent(change: impl Fn(&mut IrpConfig)) -> Vec<Request> {
    let portal = Portal::start(|request| {
        if request.line().contains("/auth ") {
            http("200 OK", "", &login_answer(request, "2099-01-01 00:00:00"))
        } else {
            http("200 OK", "", &success(&registration()))
        }
    });
    let mut config = portal.config();
    change(&mut config);
    let (irp, taxpayer) = (Irp::try_new(&config).unwrap(), Taxpayer::new());
    let (access, seller) = (taxpayer.access(), "33AAKFN5208R1ZT".parse().unwrap());
    irp.login(&taxpayer.account, false).await.unwrap();
    irp.generate(&access, b"{}").await.unwrap();
    irp.by_irn(&access, &seller, &IRN.parse().unwrap())
        .await
        .unwrap();
    // Its answer is not a GSTIN's details, but its address is looked at.
    irp.sync_gstin(&access, &seller).await.unwrap_err();
    portal.requests()
}

#[tokio::test]
async fn each_family_of_calls_has_a_path_of_its_own() {
    let requests = sent(|config| {
        config.route.paths = PathsConfig {
            eivital: "/einv-gsp/vital".to_owned(),
            eicore: "/einv-gsp/core".to_owned(),
            eiewb: "/einv-gsp/eiewb".to_owned(),
        };
    })
    .await;
    let lines: Vec<&str> = requests.iter().map(Request::line).collect();
    let by_irn = format!("GET /einv-gsp/core/v1.03/Invoice/irn/{IRN} HTTP/1.1");
    assert_eq!(
        lines,
        [
            "POST /einv-gsp/vital/v1.04/auth HTTP/1.1",
            "POST /einv-gsp/core/v1.03/Invoice HTTP/1.1",
            &by_irn,
            "GET /einv-gsp/vital/v1.04/Master/syncgstin/33AAKFN5208R1ZT HTTP/1.1",
        ]
    );
}

#[tokio::test]
async fn headers_are_sent_under_the_names_of_the_gateway_and_under_no_other() {
    let renamed = [
        ("client_id", "x-client"),
        ("client_secret", "x-secret"),
        ("gstin", "x-gstin"),
        ("user_name", "user-name"),
        ("authtoken", "auth-token"),
        ("sup_gstin", "sup-gstin"),
    ];
    let requests = sent(|config| {
        config.route.header_names = renamed
            .map(|(of, name)| (of.to_owned(), name.to_owned()))
            .into();
    })
    .await;
    for (header, name) in renamed {
        assert!(
            requests
                .iter()
                .all(|request| request.header(header).is_empty()),
            "{header}"
        );
        assert_eq!(requests[2].header(name).len(), 1, "{name}");
    }
    assert_eq!(requests[2].header("auth-token"), ["tOkEn123"]);
    assert_eq!(requests[2].header("sup-gstin"), ["33AAKFN5208R1ZT"]);
}

#[tokio::test]
async fn client_pair_is_sent_left_out_or_left_empty() {
    for (pair, id, secret) in [
        (ClientPair::Send, vec!["the-client"], vec!["the-secret"]),
        (ClientPair::Omit, vec![], vec![]),
        (ClientPair::Empty, vec![""], vec![""]),
    ] {
        for request in sent(|config| config.route.client_pair = pair).await {
            let values = |name: &str| -> Vec<String> {
                let lines = request
                    .head
                    .lines()
                    .skip(1)
                    .filter_map(|line| line.split_once(':'));
                let named = lines.filter(|(field, _)| field.eq_ignore_ascii_case(name));
                named.map(|(_, value)| value.trim().to_owned()).collect()
            };
            assert_eq!(values("client_id"), id, "{pair:?}");
            assert_eq!(values("client_secret"), secret, "{pair:?}");
        }
    }
}
