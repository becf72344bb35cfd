//! Tests a broker with TLS: services and servers verify each other's certificates.

use service::nats::{BrokerUser, connect_once};
use tests::{
    certificate::Certificate,
    cluster::{Cluster, Size},
    nats::has_safe_clusters,
};

#[tokio::test]
async fn cluster_with_tls_serves_only_clients_that_know_its_certificate() {
    if !has_safe_clusters() {
        return;
    }
    let cluster = Cluster::start_on_broker_cluster_with_tls(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut eve = cluster.socket(0, "eve").await;
    eve.act_ok("join_room", serde_json::json!({ "room_pk": room })).await;
    let id = ann.send_message(room, "hello").await;
    assert_eq!(eve.event("chat-message").await.id(), id);

    let mut without_tls = cluster.nats.args(BrokerUser::Api);
    without_tls.nats_url = without_tls.nats_url.replace("tls://", "nats://");
    without_tls.nats_ca = None;
    let mut with_other_certificate = cluster.nats.args(BrokerUser::Api);
    let other_certificate = Certificate::new();
    with_other_certificate.nats_ca = Some(other_certificate.ca());
    for args in [without_tls, with_other_certificate] {
        connect_once(&args, BrokerUser::Api)
            .await
            .expect_err("a client that does not trust the certificate must not connect");
    }
}
