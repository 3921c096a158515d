"""The way from the proxy to MLflow: its address, its protocol, and how long the proxy waits."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL
from mlflow_proxy_e2e.causes.snippets import BY_NAME, snippets
from mlflow_proxy_e2e.facts.comparisons import by_mlflow
from mlflow_proxy_e2e.facts.facts import EDGE_ROUTE, Facts
from mlflow_proxy_e2e.facts.intermittent import ABOUT_KEYS
from mlflow_proxy_e2e.facts.outage import fails_at_once, health, mlflow_away, nobody_answered, waited_in_vain, with_logs
from mlflow_proxy_e2e.facts.refused import host_refused
from mlflow_proxy_e2e.facts.sign import NO, UNTOLD, Reading, Shows, Sign
from mlflow_proxy_e2e.facts.slow_calls import download_ended, slower_than_mlflow
from mlflow_proxy_e2e.facts.stopped import (
    Stopped,
    at_edge,
    flag,
    flags,
    logged,
    now_and_then,
    own_words,
    page_in_its_place,
    slow,
    status,
    stops,
    unrouted_path,
)


def _is_right_host(facts: Facts, seen: Stopped) -> bool | None:
    """Tell from the proxy's log whether it tried MLflow's own host."""
    if not facts.has_logs:
        return None
    right = urlsplit(facts.direct.url).hostname if facts.direct else None
    tried = [upstream.rpartition(":")[0] for upstream in facts.said(seen.reply, "proxy", "upstream")]
    return not (right and any(tried) and right not in tried)


tls_error = logged("proxy", "details", lambda said: "TLS_error" in "".join(said))
refused = fails_at_once & flag("proxy", "UF") & ~tls_error
protocol_error = fails_at_once & flag("proxy", "UPE", "UC")


def _front_is_well(facts: Facts, seen: Stopped) -> bool:
    """Tell whether the first hop of the route and the auth service answer by themselves."""
    front, auth = facts.ask_hop("edge" if seen.route.name == EDGE_ROUTE else "proxy"), health(facts)
    return bool(front and front.status and auth and auth.status == 200)


def _stale_now_and_then(facts: Facts) -> Reading:
    """Gateway errors now and then that have nothing to do with keys, and that are not timeouts."""
    return _gateway_errors_now_and_then(facts, is_timeout=False)


def _too_late_now_and_then(facts: Facts) -> Reading:
    """Calls that take longer now and then than the proxy waits, although they are fast."""
    return _gateway_errors_now_and_then(facts, is_timeout=True)


def _gateway_errors_now_and_then(facts: Facts, *, is_timeout: bool) -> Reading:
    seen = now_and_then(facts)
    if seen is None or seen.hops != ("proxy",) or ABOUT_KEYS.search(seen.failed.body):
        return NO
    status = seen.failed.status or 0
    shows = status == http.client.GATEWAY_TIMEOUT if is_timeout else status >= 500 and status != http.client.GATEWAY_TIMEOUT
    return Reading(Shows.YES, (seen.failed, seen.good), seen.hops) if shows else NO


def _other_now_and_then(facts: Facts) -> Reading:
    seen = now_and_then(facts)
    return Reading(Shows.YES, (seen.failed, seen.good), seen.hops) if seen else NO


def _is_called_by_own_name(facts: Facts, seen: Stopped) -> bool | None:
    """Tell whether the proxy calls MLflow by an address that MLflow itself accepts as Host."""
    if not facts.has_logs or not facts.direct:
        return None
    return seen.hops == ("proxy",) and urlsplit(facts.direct.url).netloc in facts.said(seen.reply, "proxy", "upstream")


by_upstream = logged("proxy", "details", lambda said: said == ["via_upstream"])
not_found_by_another = unrouted_path & ~at_edge & stops(lambda _, seen: not by_mlflow(seen.reply)) & by_upstream
cut_by_proxy = stops(lambda facts, seen: bool(seen.reply.failure) and "UT" in (flags(facts, seen.reply, "proxy") or ""))
connects_in_vain = (mlflow_away & slow & with_logs & flag("proxy", "UF")).located("proxy")
gets_no_word = (mlflow_away & slow & with_logs & ~flag("proxy", "UF", "UH", "UPE", "UC")).located("proxy")
behind_well_front = nobody_answered & ~at_edge & stops(_front_is_well)
UNNAMED = (("the same call fails now and then", Sign(_other_now_and_then)),)


BY_HTTP11 = snippets(
    envoy="""
        clusters:
          - name: mlflow
            typed_extension_protocol_options:
              envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
                "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
                explicit_http_config: { http_protocol_options: {} } # not http2_protocol_options
    """,
    nginx="""
        location /mlflow/ {
            proxy_http_version 1.1;
        }
    """,
)

CAUSES = (
    Cause(
        id=CauseId("port-refused"),
        hop="proxy",
        severity="down",
        symptom="502 at once on every call",
        what="the proxy calls MLflow on a port where nothing listens",
        remedy="use MLflow's port",
        shows=(refused & stops(_is_right_host)).located("proxy"),
        reddens=(ALL,),
        fixes=BY_NAME,
    ),
    Cause(
        id=CauseId("stale-address"),
        hop="proxy",
        severity="down",
        symptom="502 at once on every call, since MLflow was restarted",
        what="the proxy's upstream is an address that MLflow no longer has",
        remedy="use MLflow's service-discovery name, and have it resolved regularly",
        shows=(refused & ~stops(_is_right_host)).located("proxy"),
        reddens=(ALL,),
        fixes=BY_NAME,
    ),
    Cause(
        id=CauseId("one-address-stale"),
        hop="proxy",
        severity="down",
        symptom="502 on some calls, which succeed when they are repeated",
        what="one of the proxy's addresses for MLflow is out of date",
        remedy="use MLflow's service-discovery name, and have it resolved regularly",
        shows=Sign(_stale_now_and_then),
        explains=(
            CauseId("idle-timeout"),
            CauseId("edge-timeout-too-short"),
            CauseId("timeout-too-short"),
        ),
        reddens=(ALL,),
        fixes=BY_NAME,
    ),
    Cause(
        id=CauseId("address-taken-over"),
        hop="proxy",
        severity="down",
        symptom="404 from an unrelated service on every call",
        what="the proxy's upstream is a former address of MLflow that now belongs to another service",
        remedy="use MLflow's service-discovery name, and have it resolved regularly",
        shows=(not_found_by_another & with_logs) | (page_in_its_place & ~at_edge & UNTOLD),
        reddens=(ALL,),
        fixes=BY_NAME,
    ),
    Cause(
        id=CauseId("dns-fail"),
        hop="proxy",
        severity="down",
        symptom="502 at once on every call",
        what="the name of the proxy's upstream does not resolve",
        remedy="register MLflow with service discovery, or use the name it has there",
        reports=("mlflow#10240",),
        shows=(fails_at_once & flag("proxy", "UH")).located("proxy"),
        reddens=(ALL,),
        fixes=BY_NAME,
    ),
    Cause(
        id=CauseId("connect-timeout"),
        hop="proxy",
        severity="down",
        symptom="502 on every call, after the proxy's connect timeout",
        what="a security group, firewall or network partition silently drops packets from the proxy to MLflow",
        remedy="allow the proxy's security group to reach MLflow's port",
        shows=connects_in_vain | waited_in_vain | behind_well_front,
        reddens=(ALL,),
        fixes=snippets(
            aws="""
                aws ec2 authorize-security-group-ingress --group-id "$MLFLOW_SECURITY_GROUP" \\
                  --protocol tcp --port 5000 --source-group "$PROXY_SECURITY_GROUP"
            """
        ),
    ),
    Cause(
        id=CauseId("upstream-silent"),
        hop="proxy",
        severity="down",
        symptom="504 on every call, after the proxy's response timeout",
        what="the proxy's upstream accepts connections but never answers: a forwarded port with nothing behind it, a hung process",
        remedy="check what listens at the proxy's upstream address, and restart it",
        reports=("mlflow#21470",),
        shows=gets_no_word | waited_in_vain,
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("timeout-too-short"),
        hop="proxy",
        severity="down",
        symptom="large downloads are cut off, and slow calls are answered 504",
        what="the proxy's limit on the time of a whole answer is shorter than some answers take",
        remedy="limit idle time, not the time of a whole answer",
        shows=cut_by_proxy
        | Sign(_too_late_now_and_then)
        | (mlflow_away & ~own_words & ~slow & status(504))
        | download_ended.at("proxy"),
        explains=(CauseId("edge-timeout-too-short"),),
        reddens=(
            r"test_slow_calls\.py",
            r"test_artifacts\.py::test_large_file",
        ),
        fixes=snippets(
            envoy="""
                # of the HttpConnectionManager
                stream_idle_timeout: 60s
                route_config:
                  virtual_hosts:
                    - name: any
                      domains: ["*"]
                      routes:
                        - match: { prefix: /mlflow/ }
                          route: { cluster: mlflow, prefix_rewrite: /, timeout: 0s } # the default is 15 s
            """,
            nginx="""
                location /mlflow/ { # each is about a pause, not about a whole call
                    proxy_read_timeout 60s;
                    proxy_send_timeout 60s;
                    send_timeout 60s;
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("upstream-by-https"),
        hop="proxy",
        severity="down",
        symptom="502 at once on every call",
        what="the proxy speaks HTTPS to a port where MLflow speaks HTTP",
        remedy="start the upstream's URL with http://",
        shows=((fails_at_once & flag("proxy", "UF") & tls_error) | (protocol_error & UNTOLD)).located("proxy"),
        reddens=(ALL,),
        fixes=snippets(
            envoy="""
                clusters:
                  - name: mlflow
                    transport_socket: # plain HTTP, as without any transport_socket
                      name: envoy.transport_sockets.raw_buffer
                      typed_config: { "@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer }
            """,
            nginx=BY_NAME["nginx"],
        ),
    ),
    Cause(
        id=CauseId("upstream-by-http2"),
        hop="proxy",
        severity="down",
        symptom="502 at once on every call",
        what="the proxy speaks HTTP/2 to MLflow, which does not support it",
        remedy="use HTTP/1.1 for the upstream",
        shows=(protocol_error & UNTOLD).located("proxy"),
        reddens=(ALL,),
        fixes=BY_HTTP11,
    ),
    Cause(
        id=CauseId("wrong-host-sent"),
        hop="proxy",
        severity="down",
        symptom='403 "Invalid Host header" on every call, while MLflow itself answers',
        what="the proxy sends MLflow a Host header that MLflow does not accept",
        remedy="send the name under which the proxy calls MLflow, or add the other name to --allowed-hosts",
        reports=("mlflow#22095",),
        shows=host_refused & stops(_is_called_by_own_name),
        reddens=(ALL,),
        fixes=snippets(
            envoy="""
                routes:
                  - match: { prefix: /mlflow/ }
                    route:
                      cluster: mlflow
                      prefix_rewrite: /
                      host_rewrite_literal: mlflow.internal:5000 # in --allowed-hosts of MLflow
                      timeout: 0s
            """,
            nginx="""
                location /mlflow/ {
                    proxy_set_header Host mlflow.internal:5000; # in --allowed-hosts of MLflow
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("latency-added"),
        hop="proxy",
        severity="contract",
        symptom="every call takes seconds, and a program that makes many calls takes hours",
        what="a hop delays calls that MLflow itself answers at once",
        remedy="find out what calls wait for: a DNS lookup each time, a slow check of keys, too little CPU or too few workers",
        shows=slower_than_mlflow,
        reddens=(r"test_slow_calls\.py::test_read_is_answered_at_once",),
    ),
)
