//! Tests a broker with TLS: services and servers know each other by their certificates.

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

    let mut plain = cluster.nats.args(BrokerUser::Api);
    plain.nats_url = plain.nats_url.replace("tls://", "nats://");
    plain.nats_ca = None;
    let mut stranger = cluster.nats.args(BrokerUser::Api);
    let other = Certificate::new();
    stranger.nats_ca = Some(other.ca());
    for args in [plain, stranger] {
        connect_once(&args, BrokerUser::Api).await.expect_err("its certificate is not known");
    }
}
