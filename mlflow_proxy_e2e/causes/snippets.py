"""Configuration that mends causes: how a family writes it down, and what several families share.

The prefix is ``/mlflow`` at the proxy and ``/api/mlflow`` at the edge; the services are ``proxy.internal``, ``auth.internal`` and
``mlflow.internal``.
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent

from mlflow_proxy_e2e.causes.cause import Product


def snippets(*, envoy: str = "", nginx: str = "", aws: str = "") -> Mapping[Product, str]:
    """Return configuration by product, without the indentation that it has in a module."""
    written: Mapping[Product, str] = {"Envoy": envoy, "nginx": nginx, "AWS": aws}
    return {product: dedent(text).strip() for product, text in written.items() if text}


# What is below the proxy's prefix reaches MLflow as it was sent.
AS_SENT = snippets(
    envoy="""
        routes:
          - match: { prefix: /mlflow/ } # with the slash, here and below
            route:
              cluster: mlflow
              prefix_rewrite: / # the rest of the path and the query stay as they are
              timeout: 0s
    """,
    nginx="""
        http {
            map $request_uri $below { # the path below the prefix and the query, as they were sent
                "~^/mlflow(?<rest>/.*)$" $rest;
            }
            server {
                resolver 10.0.0.2 valid=5s; # your DNS server, which is asked again and again
                location /mlflow/ {
                    if ($below = "") { return 404; } # below the prefix only once it is normalized
                    proxy_pass http://mlflow.internal:5000$below;
                }
            }
        }
    """,
)
# The proxy finds MLflow by its name.
BY_NAME = snippets(
    envoy="""
        clusters:
          - name: mlflow
            type: STRICT_DNS # the name is resolved again and again
            load_assignment:
              cluster_name: mlflow
              endpoints:
                - lb_endpoints:
                    - endpoint: { address: { socket_address: { address: mlflow.internal, port_value: 5000 } } }
    """,
    nginx=AS_SENT["nginx"],
)
# The proxy asks the auth service about the call as it will be forwarded, with the key in both headers.
ASK = snippets(
    envoy="""
        http_filters: # before the router
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              status_on_error: { code: ServiceUnavailable }
              allowed_headers: { patterns: [ { exact: x-api-key } ] } # besides Authorization, which is always sent
              http_service:
                server_uri: { uri: http://auth.internal:8002, cluster: auth, timeout: 3s }
                path_prefix: /authorize # before the call's own path: /authorize/mlflow/…
    """,
    nginx="""
        location = /authorize { # for auth_request
            internal;
            proxy_pass http://auth.internal:8002/authorize/mlflow$below; # $below: the path and query that MLflow gets
            proxy_method $request_method;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header Authorization $http_authorization;
            proxy_set_header X-API-Key $http_x_api_key;
        }
    """,
)
# Decisions, by a service or by rules, are about the path that is forwarded.
NORMALIZED = snippets(
    envoy="""
        # of the HttpConnectionManager
        normalize_path: true
        merge_slashes: true
        path_with_escaped_slashes_action: KEEP_UNCHANGED # %2F is part of names
    """
)
# A hop accepts long URLs and headers.
LONG_HEADERS = snippets(
    envoy="""
        # of the HttpConnectionManager
        max_request_headers_kb: 64 # for the URL and all headers
    """,
    nginx="""
        server {
            large_client_header_buffers 4 64k; # each holds the URL or a header
        }
    """,
)
# A hop leaves connections open.
KEEP_ALIVE = snippets(
    envoy="""
        # of the HttpConnectionManager
        common_http_protocol_options:
          idle_timeout: 3600s
          max_requests_per_connection: 0 # no limit
    """,
    nginx="""
        server {
            keepalive_timeout 75s;
            keepalive_requests 1000;
        }
    """,
)
# A behaviour of a content delivery network that caches nothing and passes all headers on.
UNCACHED = snippets(
    nginx="""
        location /api/mlflow/ {
            proxy_cache off;
        }
    """,
    aws="""
        # a cache behavior of the AWS::CloudFront::Distribution
        PathPattern: /api/mlflow/*
        TargetOriginId: edge
        ViewerProtocolPolicy: https-only
        AllowedMethods: [GET, HEAD, OPTIONS, PUT, PATCH, POST, DELETE]
        CachePolicyId: 4135ea2d-6df8-44a3-9df3-4b5a84be39ad # Managed-CachingDisabled
        OriginRequestPolicyId: 216adef6-5c7f-47e4-b989-5492eafa07d3 # Managed-AllViewer, with Authorization and X-API-Key
    """,
)
# The edge has one rule, for everything below its prefix, with the proxy as its target.
TO_PROXY = snippets(
    envoy="""
        routes:
          - match: { prefix: /api/mlflow/ } # everything below the prefix
            route:
              cluster: proxy
              prefix_rewrite: /mlflow/ # the proxy's own prefix
              timeout: 0s
    """,
    nginx="""
        http {
            map $request_uri $below { # the path below the prefix and the query, as they were sent
                "~^/api/mlflow(?<rest>/.*)$" $rest;
            }
            server {
                resolver 10.0.0.2 valid=5s; # your DNS server
                location /api/mlflow/ {
                    if ($below = "") { return 404; } # below the prefix only once it is normalized
                    proxy_pass http://proxy.internal:8001/mlflow$below;
                }
            }
        }
    """,
    aws="""
        aws elbv2 modify-rule --rule-arn "$MLFLOW_RULE_ARN" \\
          --conditions 'Field=path-pattern,Values=[/api/mlflow,/api/mlflow/*]' \\
          --actions "Type=forward,TargetGroupArn=$PROXY_TARGET_GROUP_ARN"
    """,
)
# A decision holds for one call only.
NOT_CACHED = snippets(
    nginx="""
        location = /authorize {
            proxy_cache off;
        }
    """,
    aws="""
        # 0 seconds: the authorizer is asked about every call
        aws apigateway update-authorizer --rest-api-id "$API_ID" --authorizer-id "$AUTHORIZER_ID" \\
          --patch-operations op=replace,path=/authorizerResultTtlInSeconds,value=0
    """,
)
