-- Every unit that was asked for is in sku_days, once.
SELECT asked, kept
FROM (SELECT sum(units_requested) AS asked FROM {{ source('lotline', 'bi_service_levels') }}) AS s
CROSS JOIN (SELECT sum(units_requested) AS kept FROM {{ ref('sku_days') }}) AS k
WHERE asked != kept
