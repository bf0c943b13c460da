use super::super::profile::Requirement;
use super::super::testing::{GROUP, TENANT};
use super::*;

fn tenant(id: &str, prefix: &str) -> IssuerSettings {
    let mut tenant = EntraTenant::new(id, vec!["aud".to_owned()]);
    tenant.user_prefix = Prefix::parse(prefix).expect("a prefix");
    tenant.group_prefix = Prefix::parse(prefix).expect("a prefix");
    IssuerSettings::Entra(tenant)
}

fn oidc(issuer: &str, prefix: &str) -> OidcIssuer {
    let prefix = Prefix::parse(prefix).expect("a prefix");
    OidcIssuer::new(issuer, vec!["aud".to_owned()], prefix)
}

fn check(issuers: Vec<IssuerSettings>) -> Result<(), Misconfigured> {
    VerifierSettings { issuers, ..VerifierSettings::default() }.check()
}

fn check_oidc_with(change: impl FnOnce(&mut OidcIssuer)) -> Result<(), Misconfigured> {
    let mut issuer = oidc("https://a.example", "-");
    change(&mut issuer);
    check(vec![IssuerSettings::Oidc(issuer)])
}

const OTHER: &str = "22222222-2222-3333-4444-555555555555";

#[test]
fn one_issuer_needs_no_prefix_and_several_need_one_each() {
    let a = |prefix| IssuerSettings::Oidc(oidc("https://a.example", prefix));
    let b = |prefix| IssuerSettings::Oidc(oidc("https://b.example", prefix));
    assert_eq!(check(vec![]), Ok(()));
    assert_eq!(check(vec![a("-")]), Ok(()));
    assert_eq!(check(vec![a("a:"), b("b:")]), Ok(()));
    assert_eq!(check(vec![tenant(TENANT, "-")]), Ok(()));
    assert_eq!(check(vec![tenant(TENANT, "one:"), tenant(OTHER, "two:")]), Ok(()));
    for (one, two) in [("-", "b:"), ("a:", "-"), ("x:", "x:"), ("x", "x:"), ("-", "-")] {
        let refused = check(vec![a(one), b(two)]);
        assert!(matches!(refused, Err(Misconfigured::Prefixes(..))), "{one} {two}");
    }
    let refused = check(vec![tenant(TENANT, "-"), tenant(OTHER, "-")]);
    assert!(matches!(refused, Err(Misconfigured::Prefixes(..))));
}

#[test]
fn prefixes_of_groups_are_compared_where_there_are_groups() {
    let issuer = |name: &str, user: &str, groups: Option<&str>| {
        let mut issuer = oidc(name, user);
        issuer.groups_claim = groups.map(str::to_owned);
        IssuerSettings::Oidc(issuer)
    };
    let (a, b) = ("https://a.example", "https://b.example");
    assert_eq!(check(vec![issuer(a, "a:", Some("groups")), issuer(b, "b:", None)]), Ok(()));
    let refused = check(vec![issuer(a, "a:", Some("groups")), issuer(b, "b:", Some("roles"))]);
    assert!(matches!(refused, Err(Misconfigured::Prefixes(..))));
}

#[test]
fn a_prefix_is_a_decision() {
    assert_eq!(Prefix::parse(""), None);
    assert_eq!(Prefix::parse("-"), Some(Prefix::None));
    assert_eq!(Prefix::parse("gh:"), Some(Prefix::Text("gh:".to_owned())));
    for prefix in ["system:", "System:x", " a", "a\n", "\u{e9}:"] {
        let refused = check_oidc_with(|issuer| issuer.user_prefix = Prefix::Text(prefix.into()));
        assert_eq!(refused, Err(Misconfigured::BadPrefix(prefix.to_owned())));
    }
}

#[test]
fn issuers_are_disjoint_from_each_other_and_from_service_accounts() {
    let twice = vec![tenant(TENANT, "a:"), tenant(TENANT, "b:")];
    assert!(matches!(check(twice), Err(Misconfigured::IssuerTwice(_))));
    let mut gov = EntraTenant::new(TENANT, vec!["aud".to_owned()]);
    gov.cloud = super::super::profile::Cloud::UsGovernment;
    gov.user_prefix = Prefix::Text("gov:".to_owned());
    let shared = check(vec![tenant(TENANT, "a:"), IssuerSettings::Entra(gov)]);
    let v1 = format!("https://sts.windows.net/{TENANT}/");
    assert_eq!(shared, Err(Misconfigured::IssuerTwice(v1)), "both clouds share the v1 issuer");
    let name = "https://kubernetes.default.svc";
    let settings = VerifierSettings {
        issuers: vec![IssuerSettings::Oidc(oidc(name, "-"))],
        service_account_issuer: Some(name.to_owned()),
        ..VerifierSettings::default()
    };
    assert_eq!(settings.check(), Err(Misconfigured::ServiceAccountIssuer(name.to_owned())));
}

#[test]
fn a_tenant_is_a_guid_and_nothing_for_many() {
    for id in ["common", "organizations", "consumers", "contoso.com", "", &TENANT[1..]] {
        assert_eq!(check(vec![tenant(id, "-")]), Err(Misconfigured::Tenant(id.to_owned())));
    }
    let mut settings = EntraTenant::new(TENANT, vec!["aud".to_owned()]);
    settings.signing_app = Some("a&b=c".to_owned());
    let refused = check(vec![IssuerSettings::Entra(settings)]);
    assert_eq!(refused, Err(Misconfigured::SigningApp("a&b=c".to_owned())));
}

#[test]
fn what_could_never_work_is_refused_at_start() {
    let name = "https://a.example".to_owned();
    let cases: [(Result<(), Misconfigured>, Misconfigured); 8] = [
        (check_oidc_with(|one| one.audiences.clear()), Misconfigured::NoAudience(name.clone())),
        (
            check_oidc_with(|one| one.audiences.push(String::new())),
            Misconfigured::NoAudience(name.clone()),
        ),
        (check_oidc_with(|one| one.algorithms.clear()), Misconfigured::NoAlgorithm(name.clone())),
        (check_oidc_with(|one| one.user_claim.clear()), Misconfigured::NoUserClaim(name.clone())),
        (check_oidc_with(|one| one.leeway = 301), Misconfigured::Leeway(301)),
        (
            check_oidc_with(|one| one.issuer = "http://a.example".to_owned()),
            Misconfigured::NotHttps("http://a.example".to_owned()),
        ),
        (
            check_oidc_with(|one| one.keys = KeySource::Url("file:///keys".to_owned())),
            Misconfigured::NotHttps("file:///keys".to_owned()),
        ),
        (
            VerifierSettings {
                possession: Possession::Accept(String::new()),
                ..VerifierSettings::default()
            }
            .check(),
            Misconfigured::NoProofTarget,
        ),
    ];
    for (refused, expected) in cases {
        assert_eq!(refused, Err(expected));
    }
    assert_eq!(
        check_oidc_with(|one| one.required.push(("repo".to_owned(), Requirement::Exists))),
        Ok(())
    );
}

#[test]
fn a_group_map_names_no_group_of_kubernetes() {
    for (id, name) in
        [(GROUP, "system:masters"), (GROUP, ""), (GROUP, "a\nb"), ("not-a-guid", "dev")]
    {
        let mut tenant = EntraTenant::new(TENANT, vec!["aud".to_owned()]);
        tenant.group_names.insert(id.to_owned(), name.to_owned());
        let refused = check(vec![IssuerSettings::Entra(tenant)]);
        assert_eq!(refused, Err(Misconfigured::GroupName(id.to_owned(), name.to_owned())));
    }
}
